"""make bench-methods: every planning method on 216 cases of models, clusters and batches.

Each method plans each case in a process of its own, on one thread and within the same limit; what it has not found by
then counts as nothing found. All plans are priced by the same evaluation. Prints per method the mean and the largest
gain of `shardwise` over it, and the share of cases where it finds nothing although a plan exists. Fails if any plan
beats `shardwise`. Answers are kept in --results, one JSON line each; a run asks only for those that are missing, so a
suite may be run in pieces (`--piece 2/4`) and printed at the end. Models: $SHARDWISE_DATA/hf_configs.
"""

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILDS = [ROOT / "build" / preset / "shardwise" for preset in ("release", "planner")]
DATA = pathlib.Path(os.environ.get("SHARDWISE_DATA", ROOT.parent / "shared" / "data"))
METHODS = ["megatron", "uniap", "uniap-inter", "uniap-intra", "alpa", "amp", "galvatron", "piper"]
# 12 models x 6 clusters x 3 batches
MODELS = {
    "gpt2": 1024, "gpt2-medium": 1024, "gpt2-large": 1024, "bert-large-uncased": 512, "qwen3-0.6b": 4096,
    "smollm2-135m": 2048, "llama-2-7b": 2048, "llama-3-8b": 4096, "qwen2-7b": 4096, "qwen3-8b": 4096,
    "mistral-7b-v0.1-family": 4096, "gpt-neox-20b": 2048,
}
PRESETS = ["dgx-a100:1", "dgx-a100:2", "dgx-h100:1", "dgx-h100:2"]
CARDS = """name: {name}
device: {{type: {type}, memory: {memory}, reserve: 2 GiB, fp32: {fp32}, bf16: {bf16}, memory_bandwidth: {bandwidth}}}
levels:
  - {{name: pcie, size: {size}, bandwidth: {inside}, latency: 10 us}}
  - {{name: network, size: {nodes}, bandwidth: {outside}, latency: 30 us}}
"""
# Cards that are slow to reach: what clouds and offices have.
CLUSTERS = {
    "4x-24gb-pcie": CARDS.format(name="4x-24gb-pcie", type="l4", memory="24 GiB", fp32="30 TFLOP/s",
                                 bf16="121 TFLOP/s", bandwidth="300 GB/s", size=4, nodes=1, inside="12 GB/s",
                                 outside="3 GB/s"),
    "2x4-48gb-25gbit": CARDS.format(name="2x4-48gb-25gbit", type="l40s", memory="48 GiB", fp32="91 TFLOP/s",
                                    bf16="362 TFLOP/s", bandwidth="864 GB/s", size=4, nodes=2, inside="25 GB/s",
                                    outside="25 Gbit/s"),
}
BATCHES = [16, 64, 128]


def find_plan(binary, method, model, cluster, batch, limit_s):
    """What `plan --json` answers, as far as the table needs it."""
    command = [
        binary, "plan", DATA / "hf_configs" / f"{model}.json", cluster, "--batch", batch,
        "--sequence", MODELS[model], "--precision", "bf16", "--free-axes", 1, "--method", method,
        "--threads", 1, "--time-limit", limit_s, "--json",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode not in (0, 1, 3):
        sys.exit(f"exit code {done.returncode}: {command}\n{done.stderr}")
    document = json.loads(done.stdout) if done.stdout else {}
    keys = ("step_time_s", "stop_reason", "search_time_s", "lower_bound_s")
    return {key: document.get(key) for key in keys}


def read_results(path):
    known = {}
    if path.exists():
        for line in path.read_text().splitlines():
            row = json.loads(line)
            known[row["method"], row["model"], row["cluster"], row["batch"]] = row
    return known


def run(binary, cases, methods, limit_s, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    known = read_results(path)
    with tempfile.TemporaryDirectory() as folder, path.open("a") as results:
        files = {name: pathlib.Path(folder) / f"{name}.yaml" for name in CLUSTERS}
        for name, file in files.items():
            file.write_text(CLUSTERS[name])
        for (model, cluster, batch), method in itertools.product(cases, methods):
            if (method, model, cluster, batch) in known:
                continue
            answer = find_plan(binary, method, model, files.get(cluster, cluster), batch, limit_s)
            row = {"method": method, "model": model, "cluster": cluster, "batch": batch, **answer}
            results.write(json.dumps(row) + "\n")
            results.flush()


def print_table(known, cases, methods):
    """Returns the cases where a method beats `shardwise`."""
    feasible = proved = 0
    gains = {method: [] for method in methods}
    nothing = dict.fromkeys(methods, 0)
    seconds = {method: [] for method in ["shardwise", *methods]}
    beaten = []
    for case in cases:
        ours = known["shardwise", *case]
        proved += ours["stop_reason"] in ("optimal", "infeasible")
        rows = {method: known[method, *case] for method in methods}
        exists = ours["step_time_s"] or any(row["step_time_s"] for row in rows.values())
        feasible += bool(exists)
        seconds["shardwise"].append(ours["search_time_s"])
        for method, row in rows.items():
            seconds[method].append(row["search_time_s"])
            if row["step_time_s"] is None:
                nothing[method] += bool(exists)
                continue
            gain = row["step_time_s"] / ours["step_time_s"] - 1 if ours["step_time_s"] else -1
            gains[method].append(gain)
            if gain < -1e-9:
                beaten.append(f"{method} on {' '.join(map(str, case))}: {100 * gain:.2f} % ({ours['stop_reason']})")
    print(f"{len(cases)} cases, {feasible} with a plan, {proved} proved within the limit\n")
    print("| method | mean gain | largest | finds nothing | median search |\n|---|---|---|---|---|")
    middle = {method: sorted(times)[len(times) // 2] for method, times in seconds.items()}
    print(f"| `shardwise` | | | 0 of {feasible} | {middle['shardwise']:.2f} s |")
    for method, values in gains.items():
        mean = 100 * sum(values) / max(1, len(values))
        largest = 100 * max(values, default=0)
        print(f"| `{method}` | {mean:.1f} % | {largest:.1f} % | {nothing[method]} of {feasible} "
              f"({100 * nothing[method] / max(1, feasible):.0f} %) | {middle[method]:.2f} s |")
    return beaten


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=216, help="take every so many of them only")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--limit", type=float, default=4, help="seconds of each search")
    parser.add_argument("--piece", default="1/1", help="2/4: run the second quarter of the cases, print nothing")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build" / "bench_methods.jsonl")
    parser.add_argument("--binary", type=pathlib.Path, default=next((b for b in BUILDS if b.exists()), BUILDS[0]))
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    cases = list(itertools.product(MODELS, [*PRESETS, *CLUSTERS], BATCHES))
    cases = cases[:: max(1, len(cases) // arguments.cases)]
    piece, pieces = map(int, arguments.piece.split("/"))
    run(arguments.binary, cases[piece - 1 :: pieces], ["shardwise", *methods], arguments.limit, arguments.results)
    if pieces > 1:
        return
    beaten = print_table(read_results(arguments.results), cases, methods)
    if beaten:
        sys.exit("beaten:\n" + "\n".join(beaten))


if __name__ == "__main__":
    main()
