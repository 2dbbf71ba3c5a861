"""make bench-methods: every planning method on a suite of models, clusters and batches.

Each method plans each case in a process of its own; all plans are priced by the same evaluation. Prints per
method the mean and the largest gain of `shardwise` over it, and the share of cases where it finds nothing
although a plan exists. Fails if any plan beats `shardwise`. The whole suite has 216 cases; `--cases N` takes
every so many of them, `--methods a,b` only some methods. Models: $SHARDWISE_DATA/hf_configs.
"""

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILDS = [ROOT / "build" / preset / "shardwise" for preset in ("release", "planner")]
PLANNER = next((build for build in BUILDS if build.exists()), BUILDS[0])
DATA = pathlib.Path(os.environ.get("SHARDWISE_DATA", ROOT.parent / "shared" / "data"))
METHODS = ["megatron", "amp", "galvatron"]
# 12 models x 6 clusters x 3 batches
MODELS = [
    ("gpt2", 1024), ("gpt2-medium", 1024), ("gpt2-large", 1024), ("llama-2-7b", 4096),
    ("llama-3-8b", 8192), ("llama-2-70b", 4096), ("llama-3-70b", 8192), ("qwen2-7b", 4096),
    ("qwen3-0.6b", 4096), ("qwen3-8b", 4096), ("mixtral-8x7b-v0.1", 4096), ("mistral-7b-v0.1-family", 4096),
]
CLUSTERS = ["dgx-a100:1", "dgx-a100:2", "dgx-a100:4", "dgx-h100:1", "dgx-h100:2", "dgx-h100:4"]
BATCHES = [16, 64, 128]


def plan(method, model, sequence, cluster, batch, limit_s):
    """(seconds of a step or None, proved, exit code)."""
    command = [
        PLANNER, "plan", DATA / "hf_configs" / f"{model}.json", cluster, "--batch", batch,
        "--sequence", sequence, "--precision", "bf16", "--free-axes", 1, "--method", method,
        "--time-limit", limit_s, "--json",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode not in (0, 1, 3):
        sys.exit(f"exit code {done.returncode}: {command}\n{done.stderr}")
    document = json.loads(done.stdout) if done.stdout else {}
    return document.get("step_time_s"), document.get("stop_reason"), done.returncode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=216)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--limit", type=float, default=20, help="seconds for shardwise")
    arguments = parser.parse_args()
    cases = list(itertools.product(MODELS, CLUSTERS, BATCHES))
    step = max(1, len(cases) // arguments.cases)
    cases = cases[::step]
    gains = {method: [] for method in arguments.methods.split(",")}
    nothing = dict.fromkeys(gains, 0)
    feasible = proved = 0
    beaten = []
    for (model, sequence), cluster, batch in cases:
        ours, reason, _ = plan("shardwise", model, sequence, cluster, batch, arguments.limit)
        proved += reason in ("optimal", "infeasible")
        feasible += ours is not None
        line = f"{model:24} {cluster:11} {batch:4}  " + (f"{ours:9.4f} s" if ours else "  nothing  ")
        for method in gains:
            theirs, _, _ = plan(method, model, sequence, cluster, batch, 600)
            if theirs is None:
                nothing[method] += ours is not None
                line += f"  {method} nothing"
                continue
            gain = theirs / ours - 1 if ours else -1
            gains[method].append(gain)
            line += f"  {method} {100 * gain:+.1f} %"
            if gain < -1e-9:
                beaten.append(f"{method} on {model} {cluster} {batch}: {100 * gain:.2f} % ({reason})")
        print(line, flush=True)
    print(f"\n{len(cases)} cases, {feasible} with a plan, {proved} proved")
    print("| method | mean gain | largest | finds nothing |\n|---|---|---|---|")
    for method, values in gains.items():
        mean = 100 * sum(values) / max(1, len(values))
        largest = 100 * max(values, default=0)
        print(f"| `{method}` | {mean:.1f} % | {largest:.1f} % | {nothing[method]} of {feasible} |")
    if beaten:
        sys.exit("beaten:\n" + "\n".join(beaten))


if __name__ == "__main__":
    main()
