"""make bench-training: Shardwise against PyTorch eager, same model, ranks and cores, alternating runs.

fp32, one thread and one pinned core a rank on both sides, 25.5 M parameters, sequence 256, batch 8. Prints,
for each mode, the median of each side over all steps, and the median and the 10th to 90th percentile of
the ratio of the paired runs (above 1: Shardwise is faster).
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import shardwise as sw  # noqa: E402

MODEL = {
    "model_type": "gpt2",
    "vocab_size": 256,
    "n_positions": 256,
    "n_embd": 512,
    "n_layer": 8,
    "n_head": 8,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "tie_word_embeddings": False,
}
BATCH, SEQUENCE, STEPS, WARMUP = 8, 256, 3, 1
MODES = {  # PyTorch's mode: ranks and our layout
    "single": (1, "dp=1 micro=8"),
    "ddp": (2, "dp=2 micro=4"),
    "fsdp": (2, "dp=2 micro=4 zero=3"),
    "tp": (2, "tp=2 micro=8"),
    "pp": (2, "pp=2 micro=2"),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run_pytorch(mode, ranks, *more):
    port = free_port()
    processes = []
    for rank in range(ranks):
        environment = dict(
            os.environ, RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1",
        )
        processes.append(
            subprocess.Popen(
                [sys.executable, str(ROOT / "bench" / "pytorch_worker.py"), "--mode", mode,
                 "--batch", str(BATCH), "--sequence", str(SEQUENCE), "--steps", str(STEPS),
                 "--warmup", str(WARMUP), *more],
                stdout=subprocess.PIPE, text=True, env=environment,
                preexec_fn=lambda rank=rank: os.sched_setaffinity(0, {sw.first_cpus()[rank]}),
            )
        )
    outputs = [p.communicate()[0] for p in processes]
    if any(p.returncode for p in processes):
        raise RuntimeError(f"PyTorch {mode} failed")
    return json.loads(outputs[0].splitlines()[-1])["step_time_s"]


def run_shardwise(plan, data, folder):
    records, _ = sw.train(plan, data, STEPS + WARMUP, folder)
    return [r["step_time_s"] for r in records if r["step"] > WARMUP]


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--no-compile", action="store_true",
                        help="without torch.compile beside the single rank (it needs a C++ compiler)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "config.json").write_text(json.dumps(MODEL))
        data = folder / "data.txt"
        data.write_bytes(os.urandom(1 << 20).replace(b"\0", b"\1"))
        print(f"{'mode':<8} {'ranks':>5} {'pytorch ms':>11} {'shardwise ms':>13} {'ratio':>7} "
              f"{'10 % - 90 %':>15}")
        for mode in arguments.modes.split(","):
            ranks, layout = MODES[mode]
            plan = folder / f"{mode}.json"
            sw.run("evaluate", folder, f"local:{ranks}", "--batch", BATCH, "--sequence", SEQUENCE,
                   "--layout", layout, "-o", plan, quiet=True)
            ours, theirs, ratios = [], [], []
            for pair in range(arguments.pairs):
                if pair % 2 == 0:  # neither side is always the first
                    theirs_now = run_pytorch(mode, ranks)
                    ours_now = run_shardwise(plan, data, folder / mode)
                else:
                    ours_now = run_shardwise(plan, data, folder / mode)
                    theirs_now = run_pytorch(mode, ranks)
                theirs += theirs_now
                ours += ours_now
                ratios.append(statistics.median(theirs_now) / statistics.median(ours_now))
            print(f"{mode:<8} {ranks:>5} {1e3 * statistics.median(theirs):>11.1f} "
                  f"{1e3 * statistics.median(ours):>13.1f} {statistics.median(ratios):>7.3f} "
                  f"{quantile(ratios, 0.1):>7.3f} {quantile(ratios, 0.9):>7.3f}", flush=True)
            if mode == "single" and not arguments.no_compile:
                try:
                    compiled = run_pytorch(mode, ranks, "--compile")
                    print(f"  torch.compile: {1e3 * statistics.median(compiled):.1f} ms")
                except RuntimeError as error:
                    print(f"  torch.compile: does not work here ({error})")


if __name__ == "__main__":
    main()
