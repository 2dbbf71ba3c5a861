"""make bench-prediction: how well the cost model predicts this machine.

Draws feasible plans of the demo model by seed (at least three of each family: data, ZeRO, tensor, pipeline with
several micro-batch counts and uneven splits, recomputation). Each round profiles the machine and runs every plan in an
order drawn anew, so that a machine whose speed drifts is as fast, on average, for the predictions as for the
measurements. Prints the median prediction against the median measurement of step time, memory (of the largest rank, and
the error of the rank where it is worst), the mean and worst error and the rank correlation; the spread is that of a
plan's rounds, half the range over the median.

How well the machine repeats its own order bounds what any prediction can reach: the rank correlation of the medians of
every other round against those of the rest.

The second error, free of drift, is that of the same medians after each profile and each run was divided by the time of
a fixed load measured right before and after it (machine_speed.py).
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
from machine_speed import MachineSpeed  # noqa: E402

STEPS, WARMUP = 7, 2


def families(ranks):
    """Layout texts by family."""
    micro = [1, 2, 4, 8, 16]
    return {
        "data": [f"dp={ranks} micro={m}" for m in micro[:4]],
        "ZeRO": [f"dp={ranks} zero={z} micro={m}" for z in (1, 2, 3) for m in micro[1:4]],
        "tensor": [f"tp={ranks} sp={s} micro={m}" for s in (0, 1) for m in micro[1:]],
        "pipeline": [
            f"pp={ranks} micro={m} schedule={s}"
            for m in micro for s in ("1f1b", "gpipe", "1f1b-eager")
        ] + [
            f"pp={ranks} micro={m} layers={first},{sw.DEMO_MODEL['n_layer'] - first}"
            for m in micro[:4] for first in range(1, sw.DEMO_MODEL["n_layer"]) if ranks == 2
        ],
        "recomputation": [
            f"{d}={ranks} micro={m} recompute={r}"
            for d, m, r in itertools.product(("dp", "tp", "pp"), micro[:4], ("full", "selective"))
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


def predict(folder, profile, layout, path):
    """(step time, tensor bytes by rank); None if the plan does not fit."""
    done = subprocess.run(
        [sw.BINARY, "evaluate", folder, profile, "--batch", str(sw.DEMO_BATCH), "--sequence",
         str(sw.DEMO_SEQUENCE), "--layout", layout, "-o", path, "--json"], capture_output=True, text=True,
    )
    if done.returncode != 0:
        return None
    account = json.loads(done.stdout)
    stages = json.loads(path.read_text())["plan"]["stages"]
    of_rank = {
        device: memory["tensor_bytes"]
        for stage, memory in zip(stages, account["memory"]) for device in stage["devices"]
    }
    return account["step_time_s"], [of_rank[rank] for rank in sorted(of_rank)]


def draw_plans(draw, ranks, each, folder, profile):
    drawn = []
    for family, layouts in families(ranks).items():
        feasible = [
            (family, layout, folder / f"{family}_{i}.json")
            for i, layout in enumerate(draw.sample(layouts, len(layouts)))
            if predict(folder, profile, layout, folder / "tried.json")
        ]
        if len(feasible) < each:
            sys.exit(f"{family}: only {len(feasible)} feasible plans")
        drawn += feasible[:each]
    return drawn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=int, default=3, help="plans of each family")
    arguments = parser.parse_args()
    ranks = 2 ** int(math.log2(min(sw.physical_cores(), 4)))
    draw = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, {ranks} ranks, demo model, batch {sw.DEMO_BATCH} x "
          f"{sw.DEMO_SEQUENCE} tokens, medians of {arguments.rounds} interleaved runs of {STEPS} steps")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "config.json").write_text(json.dumps(sw.DEMO_MODEL))
        data, profile = folder / "data.txt", folder / "profile.json"
        data.write_bytes(bytes(draw.randrange(1, 256) for _ in range(1 << 18)))
        drawn = []
        predictions, times, tensor, resident = {}, {}, {}, {}  # times as (seconds, in loads)
        speed = MachineSpeed(sw.first_cpus()[:ranks])
        load = speed.load_time()
        loads = []

        def timed(action):
            """(what the action returned, seconds of a load around it)"""
            nonlocal load
            before, result = load, action()
            load = speed.load_time()
            loads.append((before + load) / 2)
            return result, loads[-1]

        for _ in range(arguments.rounds):
            _, profile_load = timed(
                lambda: sw.run("profile", folder, "--ranks", ranks, "--batch", sw.DEMO_BATCH, "--sequence",
                               sw.DEMO_SEQUENCE, "-o", profile, quiet=True))
            drawn = drawn or draw_plans(draw, ranks, arguments.each, folder, profile)
            for _, layout, path in draw.sample(drawn, len(drawn)):
                seconds, predicted_bytes = predict(folder, profile, layout, path)
                predictions.setdefault(path, []).append((seconds, seconds / profile_load))
                (records, summary), run_load = timed(lambda: sw.train(path, data, STEPS, folder / path.stem))
                seconds = sw.median_step_time(records, WARMUP)
                times.setdefault(path, []).append((seconds, seconds / run_load))
                tensor[path] = list(zip(predicted_bytes, summary["peak_tensor_bytes"]))
                resident[path] = list(zip(predicted_bytes, summary["resident_bytes"]))
        speed.close()
        print_table(drawn, predictions, times, tensor, resident)
        print(f"a load took {1e3 * min(loads):.1f} to {1e3 * max(loads):.1f} ms, median "
              f"{1e3 * statistics.median(loads):.1f} ms")


def worst_error(by_rank):
    return max((predicted / measured - 1 for predicted, measured in by_rank), key=abs)


def most_measured(by_rank):
    return max(measured for _, measured in by_rank)


def print_table(drawn, predictions, times, tensor, resident):
    memory_errors, resident_errors = [], []
    raw, steady = ([], []), ([], [])  # predicted, measured: in seconds, in loads
    print(f"{'family':<14} {'layout':<34} {'predicted ms':>12} {'measured ms':>12} {'spread':>7} {'error':>7} "
          f"{'steady':>7} {'tensor MiB':>10} {'error':>7} {'resident':>8} {'error':>7}")
    for family, layout, path in drawn:
        for unit, (predicted, measured) in enumerate((raw, steady)):
            predicted.append(statistics.median(entry[unit] for entry in predictions[path]))
            measured.append(statistics.median(entry[unit] for entry in times[path]))
        seconds = [entry[0] for entry in times[path]]
        spread = (max(seconds) - min(seconds)) / 2 / raw[1][-1]
        memory_errors.append(worst_error(tensor[path]))
        resident_errors.append(worst_error(resident[path]))
        print(f"{family:<14} {layout:<34} {1e3 * raw[0][-1]:>12.1f} {1e3 * raw[1][-1]:>12.1f} "
              f"{spread:>7.1%} {raw[0][-1] / raw[1][-1] - 1:>+7.1%} {steady[0][-1] / steady[1][-1] - 1:>+7.1%} "
              f"{most_measured(tensor[path]) / 2**20:>10.1f} {memory_errors[-1]:>+7.1%} "
              f"{most_measured(resident[path]) / 2**20:>8.1f} {resident_errors[-1]:>+7.1%}")
    halves = [
        [statistics.median(entry[0] for entry in times[path][half::2]) for _, _, path in drawn]
        for half in (0, 1) if len(times[drawn[0][2]]) > half
    ]
    for name, (predicted, measured) in (("step time", raw), ("step time, free of drift", steady)):
        errors = [abs(p / m - 1) for p, m in zip(predicted, measured)]
        print(f"{name}: mean absolute error {statistics.mean(errors):.1%}, worst {max(errors):.1%}, rank correlation "
              f"{rank_correlation(predicted, measured):.3f}")
    if len(halves) == 2:
        print(f"measured against measured, every other round: rank correlation {rank_correlation(*halves):.3f}")
    print(f"peak tensor memory: worst error {max(map(abs, memory_errors)):.1%}; resident beyond the "
          f"empty process: worst error {max(map(abs, resident_errors)):.1%}")


if __name__ == "__main__":
    main()
