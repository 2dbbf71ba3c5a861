"""make demo: profile this machine, plan a small GPT-2, train it, compare prediction with measurement.

Everything it writes goes to demo-output/. Ends with a table of predicted against measured step time and
memory for the chosen plan and for pure data, tensor and pipeline parallelism, and with a line of text that
transformers samples from the checkpoint.
"""

import collections
import json
import math
import os
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import shardwise as sw  # noqa: E402

LICENCES = pathlib.Path("/usr/share/common-licenses")
TRAINING_STEPS = 85
COMPARED_STEPS = 16
WARMUP_STEPS = 4


def collect_text(path):
    """The licence texts of every Debian system, each once."""
    files = sorted(p for p in LICENCES.iterdir() if p.is_file() and not p.is_symlink())
    path.write_bytes(b"\n".join(p.read_bytes() for p in files))
    return path.stat().st_size


def unigram_entropy(path):
    """Nats per byte of a model that knows only how often each byte occurs."""
    data = path.read_bytes()
    counts = collections.Counter(data)
    return -sum(c / len(data) * math.log(c / len(data)) for c in counts.values())


def sample(folder, prompt="The licensor "):
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    torch.manual_seed(1)
    tokens = torch.tensor([list(prompt.encode())])
    out = model.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=80, do_sample=True,
        temperature=0.7, pad_token_id=0,
    )
    return bytes(out[0].tolist()).decode(errors="replace").replace("\n", " ")


def step_title(number, text):
    print(f"\n[{number}/5] {text}", flush=True)


def main():
    out = sw.ROOT / "demo-output"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    begin = time.monotonic()
    ranks = min(sw.physical_cores(), 4)
    ranks = 2 ** int(math.log2(ranks))
    model = out / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(sw.DEMO_MODEL, indent=2))
    text = out / "licences.txt"
    size = collect_text(text)
    if size < 230_000:
        sys.exit(f"{LICENCES}: expected at least 230000 bytes of licence texts, found {size}")

    step_title(1, f"profile: {ranks} ranks, one core each")
    profile = out / "profile.json"
    shape = ["--batch", sw.DEMO_BATCH, "--sequence", sw.DEMO_SEQUENCE]
    sw.run("profile", model, "--ranks", ranks, *shape, "-o", profile)

    step_title(2, "plan")
    chosen = out / "plan.json"
    sw.run("plan", model, profile, *shape, "-o", chosen)

    step_title(3, f"train on {size} bytes of licence texts")
    records, summary = sw.train(
        chosen, text, TRAINING_STEPS, out / "training", "--checkpoint", out / "checkpoints",
        "--learning-rate", "1e-3", "--warmup", "10", "--decay-steps", TRAINING_STEPS, quiet=False,
    )
    entropy = unigram_entropy(text)
    last = sum(r["loss"] for r in records[-10:]) / 10
    tokens = TRAINING_STEPS * sw.DEMO_BATCH * sw.DEMO_SEQUENCE
    print(f"  loss after {tokens} tokens: {last:.3f} nats, unigram entropy of the text {entropy:.3f}")

    step_title(4, "compare plans: predicted and measured")
    plans = {"chosen": chosen}
    if ranks > 1:
        for name, layout in {
            "pure data": f"dp={ranks} micro={sw.DEMO_BATCH // ranks}",
            "pure tensor": f"tp={ranks} micro={sw.DEMO_BATCH}",
            "pure pipeline": f"pp={ranks} micro=2",
        }.items():
            path = out / (name.replace(" ", "_") + ".json")
            sw.run("evaluate", model, profile, *shape, "--layout", layout, "-o", path, quiet=True)
            plans[name] = path
    rows = []
    for name, path in plans.items():
        predicted = sw.run_json("evaluate", path)
        records, summary = sw.train(path, text, COMPARED_STEPS, out / "compare" / name.replace(" ", "_"))
        rows.append(
            (
                name,
                predicted["step_time_s"],
                sw.median_step_time(records, WARMUP_STEPS),
                max(m["tensor_bytes"] for m in predicted["memory"]),
                max(summary["peak_tensor_bytes"]),
            )
        )
    print(f"  {'plan':<14} {'predicted ms':>12} {'measured ms':>12} {'error':>7}"
          f" {'predicted MiB':>14} {'measured MiB':>13} {'error':>7}")
    for name, time_p, time_m, memory_p, memory_m in rows:
        print(f"  {name:<14} {1e3 * time_p:>12.1f} {1e3 * time_m:>12.1f} {time_p / time_m - 1:>+7.1%}"
              f" {memory_p / 2**20:>14.1f} {memory_m / 2**20:>13.1f} {memory_p / memory_m - 1:>+7.1%}")
    fastest = min(row[2] for row in rows)
    behind = rows[0][2] / fastest - 1
    print(f"  the chosen plan is {'the fastest' if behind <= 0 else f'{behind:.1%} behind the fastest'}"
          " of those measured")

    step_title(5, "transformers loads the checkpoint")
    latest = (out / "checkpoints" / "latest").read_text().strip()
    print(f"  {sample(out / 'checkpoints' / latest)}")
    print(f"\ndemo done in {time.monotonic() - begin:.0f} s; everything is in demo-output/")
    if last >= entropy:
        sys.exit("the loss did not fall below the unigram entropy")
    if behind > 0.05:
        sys.exit("the chosen plan is more than 5 % behind the fastest")


if __name__ == "__main__":
    os.chdir(sw.ROOT)
    main()
