"""Against Hugging Face: models that transformers makes train here as PyTorch trains them, and back.

Each family: a tiny model with random weights is saved by transformers and trained here for five AdamW
steps; losses, gradient norms and the weights after it must agree with PyTorch's AdamW on the same batch
(the data is as long as one batch, so that every step sees all of it in any order). The checkpoint written
here must load with from_pretrained and give the same loss. The first step's gradients are compared tensor
by tensor, read from what one step changes when AdamW's epsilon is so large that it is plain descent.
"""

import json
import pathlib
import unittest

import numpy
import torch
import transformers

from shardwise_process import HAS_RUNTIME, ShardwiseCase

BATCH, SEQUENCE, STEPS = 4, 16, 5
RATE, DECAY, BETAS, EPSILON, CLIP = 1e-3, 0.1, (0.9, 0.95), 1e-8, 1.0
COMMON = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "attention_dropout": 0.0,
}
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0,
    ),
    "llama": lambda: transformers.LlamaConfig(**COMMON),
    "mistral": lambda: transformers.MistralConfig(**COMMON, sliding_window=8),
    "qwen2": lambda: transformers.Qwen2Config(**COMMON),
    "qwen3": lambda: transformers.Qwen3Config(**COMMON, head_dim=8),
    "mixtral": lambda: transformers.MixtralConfig(
        **COMMON, num_local_experts=4, num_experts_per_tok=2, router_jitter_noise=0.0
    ),
}


# w - RATE / (|g| + epsilon) g: a step of 1000 gradients, exact to float32 for |g| << epsilon.
DESCENT_SCALE = 1000.0
DESCENT = ("--epsilon", 1e9, "--learning-rate", 1e9 * DESCENT_SCALE, "--weight-decay", 0, "--clip", 0)


def decays(name, parameter):
    """Norms and biases are not decayed."""
    return parameter.dim() > 1


@unittest.skipUnless(HAS_RUNTIME, "this build has no runtime")
class Transformers(ShardwiseCase):
    def make_model(self, family):
        torch.manual_seed(7)
        model = transformers.AutoModelForCausalLM.from_config(
            CONFIGS[family](), attn_implementation="eager"
        )
        # Starting norms of one and biases of zero would hide that they are exchanged.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        folder = self.folder / family
        model.save_pretrained(folder)
        return model, folder

    def make_data(self):
        tokens = numpy.random.default_rng(3).integers(0, 97, BATCH * SEQUENCE + 1, dtype=numpy.uint16)
        path = self.folder / "data.bin"
        tokens.tofile(path)
        windows = numpy.stack(
            [tokens[i * SEQUENCE : (i + 1) * SEQUENCE + 1] for i in range(BATCH)]
        ).astype(numpy.int64)
        return path, torch.from_numpy(windows)

    def train_reference(self, model, windows):
        groups = {True: [], False: []}
        for name, parameter in model.named_parameters():
            groups[decays(name, parameter)].append(parameter)
        optimizer = torch.optim.AdamW(
            [{"params": groups[True], "weight_decay": DECAY},
             {"params": groups[False], "weight_decay": 0.0}],
            lr=RATE, betas=BETAS, eps=EPSILON,
        )
        records = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = self.loss_of(model, windows)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            records.append({"loss": loss.item(), "gradient_norm": norm.item()})
        return records

    @staticmethod
    def loss_of(model, windows):
        logits = model(windows[:, :-1]).logits.float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())

    def check_family(self, family, layout, ranks):
        model, folder = self.make_model(family)
        data, windows = self.make_data()
        plan = self.make_plan(layout, batch=BATCH, sequence=SEQUENCE, ranks=ranks, model=folder)
        log = self.folder / "log.jsonl"
        run = self.folder / "run"
        self.succeed(
            "train", plan, "--data", data, "--init", folder, "--steps", STEPS, "--log", log,
            "--checkpoint", run, "--learning-rate", RATE, "--weight-decay", DECAY, "--beta1", BETAS[0],
            "--beta2", BETAS[1], "--epsilon", EPSILON, "--clip", CLIP,
        )
        ours = [json.loads(line) for line in log.read_text().splitlines()]
        reference = self.train_reference(model, windows)
        self.assertAlmostEqual(ours[0]["loss"], reference[0]["loss"], delta=1e-5 * reference[0]["loss"])
        self.assertAlmostEqual(
            ours[0]["gradient_norm"], reference[0]["gradient_norm"],
            delta=1e-5 * reference[0]["gradient_norm"],
        )
        for a, b in zip(ours, reference, strict=True):
            self.assertAlmostEqual(a["loss"], b["loss"], delta=1e-4 * b["loss"])
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            run / (run / "latest").read_text().strip(), attn_implementation="eager"
        )
        for (name, a), (_, b) in zip(
            loaded.named_parameters(), model.named_parameters(), strict=True
        ):
            # Biases of keys have no gradient but noise; it moves them by at most the rate a step.
            bound = 2 * RATE * STEPS if "k_proj.bias" in name or "c_attn.bias" in name else 1e-4
            self.assertLess((a - b).abs().max().item(), bound, name)
        again = self.loss_of(loaded, windows).item()
        after = self.loss_of(model, windows).item()
        self.assertAlmostEqual(again, after, delta=1e-4 * after)

    def check_gradients(self, family, layout, ranks):
        model, folder = self.make_model(family)
        data, windows = self.make_data()
        plan = self.make_plan(layout, batch=BATCH, sequence=SEQUENCE, ranks=ranks, model=folder)
        run = self.folder / "run"
        self.succeed("train", plan, "--data", data, "--init", folder, "--steps", 1, "--checkpoint", run, *DESCENT)
        stepped = transformers.AutoModelForCausalLM.from_pretrained(run / "step-1")
        self.loss_of(model, windows).backward()
        for (name, after), (_, before) in zip(
            stepped.named_parameters(), model.named_parameters(), strict=True
        ):
            with torch.no_grad():
                found = (before.double() - after.double()) / DESCENT_SCALE
            expected = before.grad.double()
            error = (found - expected).norm().item()
            # What remains of the weight itself, rounded to float32 after a step of 1000 gradients.
            rounding = 6e-8 * before.double().norm().item() / DESCENT_SCALE
            bound = 1e-8 if expected.norm().item() < 1e-7 else 1e-5 * expected.norm().item()
            self.assertLess(error, bound + rounding, f"{name}, norm {expected.norm().item():.3g}")


def add_cases():
    for family in CONFIGS:
        for name, layout, ranks in (("one_rank", f"dp=1 micro={BATCH}", 1), ("tensor", f"tp=2 micro={BATCH}", 2)):
            def training(self, family=family, layout=layout, ranks=ranks):
                self.check_family(family, layout, ranks)

            def gradients(self, family=family, layout=layout, ranks=ranks):
                self.check_gradients(family, layout, ranks)

            setattr(Transformers, f"test_{family}_{name}", training)
            setattr(Transformers, f"test_gradients_of_{family}_{name}", gradients)


add_cases()

if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    unittest.main()
