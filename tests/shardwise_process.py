"""Runs the shardwise binary for the Python tests."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

BINARY = os.environ.get("SHARDWISE_BINARY", "build/release/shardwise")
HAS_RUNTIME = os.environ.get("SHARDWISE_RUNTIME", "1") not in ("0", "OFF", "")

TINY_GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 256,
    "n_positions": 32,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "attn_pdrop": 0.0,
}

# Can be planned, not run.
TINY_VIT = {
    "model_type": "vit",
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 3,
}


class ShardwiseCase(unittest.TestCase):
    """A temporary folder with a tiny model and some text."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.model = self.write("config.json", json.dumps(TINY_GPT2))
        self.text = self.write("text.txt", "the quick brown fox jumps over the lazy dog. " * 200)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def run_shardwise(self, *arguments, environment=None, timeout=120):
        return subprocess.run(
            [BINARY, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
        )

    def succeed(self, *arguments, **more):
        done = self.run_shardwise(*arguments, **more)
        self.assertEqual(done.returncode, 0, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def refuse(self, code, *arguments, **more):
        """Runs a command that must fail with `code`; returns what it says."""
        done = self.run_shardwise(*arguments, **more)
        self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return done.stderr + done.stdout

    def make_plan(self, layout, name="plan.json", batch=8, sequence=32, ranks=4, model=None, more=()):
        path = self.folder / name
        self.succeed(
            "evaluate", model or self.model, f"local:{ranks}", "--batch", batch, "--sequence",
            sequence, "--layout", layout, "-o", path, *more,
        )
        return path
