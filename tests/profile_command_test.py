"""The profile command: what it measures is what planning needs, and the plan then trains."""

import json
import unittest

from shardwise_process import HAS_RUNTIME, TINY_GPT2, ShardwiseCase

TINY_MIXTRAL = {
    "model_type": "mixtral",
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}


@unittest.skipUnless(HAS_RUNTIME, "this build has no runtime")
class Profile(ShardwiseCase):
    SHAPE = ("--batch", 4, "--sequence", 32)

    def check(self, config, precision):
        model = self.write("model.json", json.dumps(config))
        profile, plan = self.folder / "profile.json", self.folder / "best.json"
        said = self.succeed("profile", model, "--ranks", 2, *self.SHAPE, "--precision", precision,
                            "--budget", 2, "-o", profile)
        self.assertIn("op times", said)
        answer = json.loads(self.succeed("plan", model, profile, *self.SHAPE, "--precision", precision,
                                         "-o", plan, "--json"))
        self.assertEqual(answer["stop_reason"], "optimal")
        self.assertFalse(answer["extrapolated"])
        for layout in ("dp=2 micro=1", "tp=2 micro=2 sp=1", "pp=2 micro=1", "dp=2 micro=2 zero=3"):
            account = json.loads(self.succeed("evaluate", model, profile, *self.SHAPE, "--precision",
                                              precision, "--layout", layout, "--json"))
            self.assertFalse(account["extrapolated"], layout)
            self.assertGreater(account["step_time_s"], 0)
        log = self.folder / "steps.jsonl"
        self.succeed("train", plan, "--data", self.text, "--steps", 2, "--log", log)
        self.assertEqual(len(log.read_text().splitlines()), 2)

    def test_gpt2(self):
        self.check(TINY_GPT2, "fp32")

    def test_mixtral_in_bf16(self):
        self.check(TINY_MIXTRAL, "bf16")

    def test_output_that_cannot_be_written_is_found_before_measuring(self):
        said = self.refuse(2, "profile", self.model, "--ranks", 2, *self.SHAPE, "-o",
                           self.folder / "none" / "profile.json", timeout=20)
        self.assertIn("none", said)


if __name__ == "__main__":
    unittest.main()
