"""make bench-prediction: how well the cost model predicts this machine.

Profiles the machine for the demo model, draws feasible plans by seed (at least three of each family: data,
ZeRO, tensor, pipeline with several micro-batch counts, recomputation), runs them interleaved, and prints
predicted against measured step time and memory, the mean and worst error and the rank correlation.
"""

import argparse
import itertools
import json
import math
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import shardwise as sw  # noqa: E402

STEPS, WARMUP = 10, 3


def families(ranks):
    """Layout texts by family."""
    micro = [1, 2, 4, 8, 16]
    return {
        "data": [f"dp={ranks} micro={m}" for m in micro[:4]],
        "ZeRO": [f"dp={ranks} zero={z} micro={m}" for z in (1, 2, 3) for m in micro[1:4]],
        "tensor": [f"tp={ranks} sp={s} micro={m}" for s in (0, 1) for m in micro[1:]],
        "pipeline": [
            f"pp={ranks} micro={m} schedule={s}"
            for m in micro[:4] for s in ("1f1b", "gpipe", "1f1b-eager")
        ],
        "recomputation": [
            f"{d}={ranks} micro={m} recompute={r}"
            for d, m, r in itertools.product(("dp", "tp", "pp"), (2, 4), ("full", "selective"))
        ],
        "context": [f"cp={ranks} micro={m}" for m in micro[1:]],
    }


def rank_correlation(a, b):
    """Spearman's, ties by average rank."""

    def ranks(values):
        order = sorted(range(len(values)), key=values.__getitem__)
        result = [0.0] * len(values)
        for place, index in enumerate(order):
            result[index] = place
        for value in set(values):
            same = [i for i, v in enumerate(values) if v == value]
            mean = sum(result[i] for i in same) / len(same)
            for i in same:
                result[i] = mean
        return result

    return statistics.correlation(ranks(a), ranks(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=3, help="plans of each family")
    parser.add_argument("--profile", help="an existing profile of the demo model")
    arguments = parser.parse_args()
    ranks = 2 ** int(math.log2(min(sw.physical_cores(), 4)))
    draw = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, {ranks} ranks, demo model, batch {sw.DEMO_BATCH} x "
          f"{sw.DEMO_SEQUENCE} tokens, medians of {arguments.rounds} interleaved runs of {STEPS} steps")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "config.json").write_text(json.dumps(sw.DEMO_MODEL))
        data = folder / "data.txt"
        data.write_bytes(bytes(draw.randrange(1, 256) for _ in range(1 << 18)))
        profile = pathlib.Path(arguments.profile) if arguments.profile else folder / "profile.json"
        shape = ["--batch", sw.DEMO_BATCH, "--sequence", sw.DEMO_SEQUENCE]
        if not arguments.profile:
            sw.run("profile", folder, "--ranks", ranks, *shape, "-o", profile)
        drawn = []
        for family, layouts in families(ranks).items():
            feasible = []
            for layout in draw.sample(layouts, len(layouts)):
                path = folder / f"{family}_{len(drawn) + len(feasible)}.json"
                done = subprocess.run(
                    [sw.BINARY, "evaluate", folder, profile, *map(str, shape), "--layout", layout,
                     "-o", path], capture_output=True, text=True,
                )
                if done.returncode == 0:
                    feasible.append((family, layout, path))
                if len(feasible) == arguments.each:
                    break
            if len(feasible) < arguments.each:
                sys.exit(f"{family}: only {len(feasible)} feasible plans")
            drawn += feasible
        times = {path: [] for _, _, path in drawn}
        memory, resident = {}, {}
        for _ in range(arguments.rounds):
            for _, _, path in drawn:
                records, summary = sw.train(path, data, STEPS, folder / path.stem)
                times[path].append(sw.median_step_time(records, WARMUP))
                memory[path] = max(summary["peak_tensor_bytes"])
                resident[path] = max(summary["resident_bytes"])
        errors, memory_errors, resident_errors, predicted, measured = [], [], [], [], []
        print(f"{'family':<14} {'layout':<34} {'predicted ms':>12} {'measured ms':>12} {'error':>7} "
              f"{'tensor MiB':>10} {'error':>7} {'resident':>8} {'error':>7}")
        for family, layout, path in drawn:
            account = sw.run_json("evaluate", path)
            predicted.append(account["step_time_s"])
            measured.append(statistics.median(times[path]))
            errors.append(predicted[-1] / measured[-1] - 1)
            tensor = max(m["tensor_bytes"] for m in account["memory"])
            memory_errors.append(tensor / memory[path] - 1)
            resident_errors.append(tensor / resident[path] - 1)
            print(f"{family:<14} {layout:<34} {1e3 * predicted[-1]:>12.1f} {1e3 * measured[-1]:>12.1f} "
                  f"{errors[-1]:>+7.1%} {memory[path] / 2**20:>10.1f} {memory_errors[-1]:>+7.1%} "
                  f"{resident[path] / 2**20:>8.1f} {resident_errors[-1]:>+7.1%}")
        print(f"step time: mean absolute error {statistics.mean(map(abs, errors)):.1%}, worst "
              f"{max(map(abs, errors)):.1%}, rank correlation {rank_correlation(predicted, measured):.3f}")
        print(f"peak tensor memory: worst error {max(map(abs, memory_errors)):.1%}; resident beyond the "
              f"empty process: worst error {max(map(abs, resident_errors)):.1%}")


if __name__ == "__main__":
    main()
