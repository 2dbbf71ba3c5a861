"""Solver bench: our search and HiGHS on the same instances, in one run.

HiGHS gets the tight network-flow form: one unit of flow through nodes (layer, stage, strategy), binary flow
variables for strategies, the period as a variable above each stage's time and each transfer. One thread, 120 s.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 120


class Instance:
    def __init__(self, path):
        numbers = path.read_text().split()
        self.layers, self.stages, self.strategies, self.microbatches = map(int, numbers[:4])
        self.cap = float(numbers[4])
        values = iter(map(float, numbers[5:]))
        rows = lambda count: [[next(values) for _ in range(self.strategies)] for _ in range(count)]
        self.time, self.memory = rows(self.layers), rows(self.layers)
        self.reshard, self.crossing = rows(self.strategies), rows(self.strategies)


def write_flow(instance, path):
    layers, stages, strategies = (range(instance.layers), range(instance.stages), range(instance.strategies))
    stage_time = [[] for _ in stages]
    stage_memory = [[] for _ in stages]
    transfer = [[] for _ in stages]
    rows, binaries = [], []
    for layer in layers:
        for stage in stages:
            for s in strategies:
                node = f"y_{layer}_{stage}_{s}"
                binaries.append(node)
                stage_time[stage].append((instance.time[layer][s], node))
                stage_memory[stage].append((instance.memory[layer][s], node))
        rows.append((" + ".join(f"y_{layer}_{i}_{s}" for i in stages for s in strategies), "= 1"))
    for layer in list(layers)[:-1]:
        for stage in stages:
            for a in strategies:
                stay = [f"e_{layer}_{stage}_{a}_{b}" for b in strategies]
                go = [f"f_{layer}_{stage}_{a}_{b}" for b in strategies] if stage + 1 < len(stages) else []
                stage_time[stage] += [(instance.reshard[a][b], stay[b]) for b in strategies]
                transfer[stage] += [(instance.crossing[a][b], arc) for b, arc in enumerate(go)]
                rows.append((" + ".join(stay + go) + f" - y_{layer}_{stage}_{a}", "= 0"))
            for b in strategies:
                come = [f"e_{layer}_{stage}_{a}_{b}" for a in strategies]
                come += [f"f_{layer}_{stage - 1}_{a}_{b}" for a in strategies] if stage > 0 else []
                rows.append((" + ".join(come) + f" - y_{layer + 1}_{stage}_{b}", "= 0"))
    rows.append((" + ".join(f"y_0_0_{s}" for s in strategies), "= 1"))
    rows.append((" + ".join(f"y_{layers[-1]}_{stages[-1]}_{s}" for s in strategies), "= 1"))
    linear = lambda terms: " + ".join(f"{cost:.6f} {name}" for cost, name in terms if cost)
    for stage in stages:
        rows.append((linear(stage_time[stage]) + f" - p_{stage}", "= 0"))
        rows.append((linear(stage_memory[stage]), f"<= {instance.cap:.6f}"))
        rows.append((f"T - p_{stage}", ">= 0"))
        if stage + 1 < len(stages):
            rows.append((linear(transfer[stage]) + f" - o_{stage}", "= 0"))
            rows.append((f"T - o_{stage}", ">= 0"))
    objective = [f"p_{i}" for i in stages] + [f"o_{i}" for i in list(stages)[:-1]]
    with open(path, "w") as file:
        file.write(f"Minimize\n obj: {' + '.join(objective)} + {instance.microbatches - 1} T\nSubject To\n")
        for number, (left, right) in enumerate(rows):
            text = f" c{number}: {left} {right}"
            file.write(re.sub(r"(.{150,200}?) ", r"\1\n  ", text) + "\n")
        file.write("Binaries\n" + "\n".join(f" {name}" for name in binaries) + "\nEnd\n")


def highs_binary():
    import importlib.util

    package = importlib.util.find_spec("highsbox")
    return None if package is None else pathlib.Path(package.origin).parent / "highs_dist" / "bin" / "highs"


def run_highs(binary, instance):
    """(seconds, primal bound, status) of HiGHS on the flow form."""
    package = binary.parent.parent  # its own libraries lie beside it
    environment = os.environ | {"LD_LIBRARY_PATH": f"{package / 'lib'}:{package / 'lib64'}"}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_flow(instance, folder / "flow.lp")
        (folder / "options").write_text(
            f"time_limit = {LIMIT_S}\nthreads = 1\nparallel = off\nmip_rel_gap = 1e-6\n"
        )
        output = subprocess.run(
            [binary, "--options_file", "options", "flow.lp"],
            stdout=subprocess.PIPE, text=True, check=False, env=environment, cwd=folder,
        ).stdout
    find = lambda pattern: re.search(pattern, output)
    status, primal, timing = (find(p) for p in (r"Status +(\S.*)", r"Primal bound +(\S+)", r"Timing +(\S+)"))
    if not (status and primal and timing):
        sys.exit("HiGHS gave no report:\n" + output[-2000:])
    return float(timing[1]), primal[1], status[1].strip()


def main(build):
    data = pathlib.Path(os.environ.get("SHARDWISE_DATA", ROOT.parent / "shared" / "data")) / "solver_bench"
    files = [data / f"{name}.dat" for name in "sml"]
    if not all(file.exists() for file in files):
        print(f"solver bench: no instances in {data}, left out (SHARDWISE_DATA)")
        return
    subprocess.run(["cmake", "--build", build, "--target", "solver_bench", "-j2"], check=True, stdout=subprocess.DEVNULL)
    binary = highs_binary()
    print("solver bench (reference/formats_and_users.md section 7.2); ours: one thread, proved optimal")
    for file in files:
        output = subprocess.run(
            [build / "src" / "planner" / "solver_bench", file], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.split()
        seconds, optimum, bound = map(float, output[1:])
        line = f"  {file.stem}: ours {seconds:.3f} s, optimum {optimum:.6f}, bound {bound:.6f}"
        if binary is not None and binary.exists():
            highs_s, primal, status = run_highs(binary, Instance(file))
            line += f"; HiGHS {highs_s:.1f} s, {primal} ({status}): {highs_s / seconds:.0f} times ours"
        print(line, flush=True)


if __name__ == "__main__":
    main(ROOT / "build" / "planner")
