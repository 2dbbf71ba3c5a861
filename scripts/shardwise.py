"""Runs the shardwise binary for the demo and the benchmarks, and reads what it writes."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "build" / "release" / "shardwise"

# A GPT-2 style model over bytes: 6.4 M parameters.
DEMO_MODEL = {
    "model_type": "gpt2",
    "vocab_size": 256,
    "n_positions": 256,
    "n_embd": 256,
    "n_layer": 8,
    "n_head": 8,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "tie_word_embeddings": True,
}
DEMO_BATCH = 16
DEMO_SEQUENCE = 256


def first_cpus():
    """The first processor of each physical core that this process may use, in order."""
    first = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            core = tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id"))
        except OSError:
            core = ("", str(cpu))
        first.setdefault(core, cpu)
    return sorted(first.values())


def physical_cores():
    return len(first_cpus())


def run(*arguments, quiet=False, timeout=None):
    """Runs shardwise; its own messages reach the terminal unless quiet. Ends the program if it fails."""
    command = [str(BINARY), *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE if quiet else None, text=True, timeout=timeout
    )
    if done.returncode != 0:
        if quiet:
            print(done.stdout)
        sys.exit(f"failed with exit code {done.returncode}: {' '.join(command)}")
    return done.stdout


def run_json(*arguments):
    return json.loads(run(*arguments, "--json", quiet=True))


def train(plan, data, steps, folder, *more, quiet=True):
    """Trains and returns (log records, summary)."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "steps.jsonl"
    summary = folder / "summary.json"
    log.unlink(missing_ok=True)
    run(
        "train", plan, "--data", data, "--steps", steps, "--log", log, "--summary", summary, *more,
        quiet=quiet,
    )
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return records, json.loads(summary.read_text())


def median_step_time(records, warmup):
    return statistics.median(r["step_time_s"] for r in records if r["step"] > warmup)
