"""make bench-planner: the planner-only binary: start-up, search time, proved gap and memory.

Start-up and two small models first (medians of whole processes). Then every case of bench/planner_cases.py, each
search in a process of its own from start to answer: seconds, proved gap, peak memory, the space that the answer names,
and whether that reaches the bar. Then the curves of time over layers and over devices, and the solver bench, ours
and HiGHS (bench/solver_bench.py). A bar that is missed is said, and is no error: times belong to the machine.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import planner_cases  # noqa: E402
import shardwise as sw  # noqa: E402
import solver_bench  # noqa: E402

PLANNER = ROOT / "build" / "planner" / "shardwise"
PARTS = ["start", "cases", "layers", "devices", "solver"]


def run(*arguments, expected=(0,)):
    """(seconds, peak MiB, output) of one process."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [str(PLANNER), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in expected:
        sys.exit(f"failed with exit code {process.returncode}: {arguments}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024, output


def search(case, folder, free_axes, gap, limit_s):
    """(seconds, MiB, answer) of one search; it ends at the limit with what it has."""
    model, cluster = case.files(folder)
    seconds, memory, output = run(
        "plan", model, cluster, "--batch", case.batch, "--sequence", case.sequence, "--precision", "bf16",
        "--free-axes", free_axes, "--gap", gap, "--time-limit", limit_s, "--threads", 2, "--json",
        expected=(0, 1, 3),
    )
    return seconds, memory, json.loads(output)


def proved_gap(answer):
    """How much slower the plan may be than the best one, or None without plan or bound."""
    step, bound = answer.get("step_time_s"), answer.get("lower_bound_s")
    return max(0.0, step / bound - 1) if step and bound else None


def describe(answer):
    gap = proved_gap(answer)
    if gap is None:
        return "a plan, no bound" if answer.get("step_time_s") else answer["stop_reason"]
    return "proved optimal" if answer["stop_reason"] == "optimal" and gap < 1e-12 else f"gap {100 * gap:.2f} %"


def print_start():
    starts = [run("--version")[0] for _ in range(21)]
    print(f"start-up: {1e3 * statistics.median(starts):.1f} ms (median of {len(starts)})")
    demo = planner_cases.Case("demo model, 4 devices", sw.DEMO_MODEL, "local:4", 16, 256, 1)
    with tempfile.TemporaryDirectory() as folder:
        for case in (demo, planner_cases.CASES[0]):
            runs = [search(case, folder, 2, 0, 60) for _ in range(3)]
            answer = runs[0][2]
            print(
                f"{case.title}, two axes: {statistics.median(r[0] for r in runs):.2f} s, "
                f"{max(r[1] for r in runs):.0f} MiB, {answer['stop_reason']}, "
                f"step {answer['step_time_s']:.4g} s, bound {answer['lower_bound_s']:.4g} s"
            )


def print_cases(limit_s, only):
    reached = total = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in planner_cases.CASES:
            if only not in case.title:
                continue
            print(f"\n{case.title}, batch {case.batch}, sequence {case.sequence}")
            for how in planner_cases.SEARCHES:
                bar_s = case.bar_s if how.bar_s is None else how.bar_s
                seconds, memory, answer = search(case, folder, how.free_axes, how.gap, limit_s)
                is_proved = answer["stop_reason"] in ("optimal", "infeasible")
                is_reached = is_proved and seconds <= bar_s and memory <= planner_cases.MEMORY_BAR_MIB
                reached += is_reached
                total += 1
                print(
                    f"  {how.title + ':':18} {seconds:6.2f} s of {bar_s:g} s, {describe(answer)}, {memory:.0f} MiB"
                    f"{'' if is_reached else '  NOT REACHED'}\n    space: {answer.get('space', '-')}",
                    flush=True,
                )
    print(f"\n{reached} of {total} bars reached (time, proof, {planner_cases.MEMORY_BAR_MIB:.0f} MiB)")


def print_curve(title, points, limit_s):
    print(f"\n{title}; one axis\n\n| | gap 1 % | gap 0 | MiB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for x, case in points:
            near, exact = (search(case, folder, 1, gap, limit_s) for gap in (0.01, 0))
            cells = [f"{seconds:.2f} s, {describe(answer)}" for seconds, _, answer in (near, exact)]
            print(f"| {x} | {cells[0]} | {cells[1]} | {max(near[1], exact[1]):.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=20, help="seconds of each search")
    parser.add_argument("--parts", default=",".join(PARTS), help="which of " + ", ".join(PARTS))
    parser.add_argument("--only", default="", help="cases whose title contains this")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: expected some of {', '.join(PARTS)}, found {', '.join(sorted(unknown))}")
    if not PLANNER.exists():
        subprocess.run([sys.executable, ROOT / "scripts" / "configure.py", "planner"], check=True)
        subprocess.run(["cmake", "--build", PLANNER.parent, "--target", "shardwise", "-j2"], check=True)
    if "start" in parts:
        print_start()
    if "cases" in parts:
        print_cases(arguments.limit, arguments.only)
    if "layers" in parts:
        print_curve("time over layers (llama-3-70b's shape, 64 H100)", planner_cases.layer_curve(), arguments.limit)
    if "devices" in parts:
        print_curve("time over devices (llama-3-70b)", planner_cases.device_curve(), arguments.limit)
    if "solver" in parts:
        solver_bench.main(PLANNER.parent)


if __name__ == "__main__":
    main()
