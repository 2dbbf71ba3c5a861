"""make bench-planner: the planner-only binary: start-up time, search time and memory.

Plans the demo model on 4 devices and llama-3-8b on 8 (dgx-h100:1) with proof; prints seconds, peak memory of
the process and the proof line. Times are medians of several whole processes. Then the solver bench, ours and HiGHS
(bench/solver_bench.py).
"""

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
import shardwise as sw  # noqa: E402
import solver_bench  # noqa: E402

PLANNER = ROOT / "build" / "planner" / "shardwise"
LLAMA_3_8B = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}


def run(*arguments):
    """(seconds, peak MiB, output) of one process."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [str(PLANNER), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed with exit code {process.returncode}: {arguments}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024, output


def main():
    if not PLANNER.exists():
        subprocess.run([sys.executable, ROOT / "scripts" / "configure.py", "planner"], check=True)
        subprocess.run(
            ["cmake", "--build", ROOT / "build" / "planner", "--target", "shardwise", "-j2"],
            check=True,
        )
    starts = [run("--version")[0] for _ in range(21)]
    print(f"start-up: {1e3 * statistics.median(starts):.1f} ms (median of {len(starts)})")
    with tempfile.TemporaryDirectory() as name:
        for title, config, cluster, batch, sequence, precision in (
            ("demo model, 4 devices", sw.DEMO_MODEL, "local:4", 16, 256, "fp32"),
            ("llama-3-8b, 8 devices", LLAMA_3_8B, "dgx-h100:1", 64, 4096, "bf16"),
        ):
            model = pathlib.Path(name) / "config.json"
            model.write_text(json.dumps(config))
            runs = [
                run("plan", model, cluster, "--batch", batch, "--sequence", sequence,
                    "--precision", precision, "--json")
                for _ in range(3)
            ]
            answer = json.loads(runs[0][2])
            print(
                f"{title}: {statistics.median(r[0] for r in runs):.2f} s, "
                f"{max(r[1] for r in runs):.0f} MiB, {answer['stop_reason']}, "
                f"step {answer['step_time_s']:.4g} s, bound {answer['lower_bound_s']:.4g} s"
            )
    solver_bench.main(PLANNER.parent)


if __name__ == "__main__":
    main()
