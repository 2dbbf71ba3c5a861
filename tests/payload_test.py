"""Bytes: what MPI really sends = what the runtime counts = what the cost model charges, exactly.

A library preloaded into the ranks (tests/pmpi) counts every MPI_Isend of the real binary by collective; it
shares no code with the runtime. One training step; control messages are left out by all three. A few plans
through the real binary; tests/pmpi/payload_matrix.cc has all of them.
"""

import json
import os
import unittest

from shardwise_process import HAS_RUNTIME, ShardwiseCase

OBSERVER = os.environ.get("SHARDWISE_PAYLOAD_OBSERVER", "")
KINDS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "sends")

LLAMA = {
    "model_type": "llama",
    "vocab_size": 259,  # odd: padded where the vocabulary is sharded
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
MIXTRAL = {
    **LLAMA,
    "model_type": "mixtral",
    "tie_word_embeddings": False,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}

LAYOUTS = [
    "dp=4 zero=3", "tp=2 sp=1 recompute=selective", "cp=2 dp=2 zero=1", "pp=4", "pp=2 vp=2 schedule=interleaved",
    "pp=2 dp=2 zero=2",
]


@unittest.skipUnless(HAS_RUNTIME and os.path.exists(OBSERVER), "this build has no payload observer")
class Payload(ShardwiseCase):
    def count(self, config, layout, precision="fp32"):
        """Bytes by rank and kind: (observed, counted by the runtime, charged by the cost model)."""
        model = self.write("model.json", json.dumps(config))
        plan = self.folder / "plan.json"
        account = json.loads(self.succeed(
            "evaluate", model, "local:4", "--batch", 8, "--sequence", 32, "--layout", layout,
            "--precision", precision, "-o", plan, "--json",
        ))
        log, summary = self.folder / "payload", self.folder / "summary.json"
        self.succeed(
            "train", plan, "--data", self.text, "--steps", 1, "--summary", summary,
            environment={"LD_PRELOAD": OBSERVER, "SHARDWISE_PAYLOAD_LOG": str(log)},
        )
        counted = json.loads(summary.read_text())["payload"]
        observed = [json.loads((self.folder / f"payload.{rank}").read_text())
                    for rank in range(len(counted))]
        charged = [
            {**{kind: stage[f"{kind}_bytes"] for kind in KINDS[:-1]}, "sends": sends}
            for stage in account["traffic"] for sends in stage["sends_bytes"]
        ]
        for seen, own in zip(observed, counted, strict=True):
            # Rows for one's own experts never reach MPI; what does must be all the rest.
            seen["all_to_all"] += seen["all_to_all_sent"] + own["all_to_all_kept"]
        pick = lambda ranks: [{kind: rank[kind] for kind in KINDS} for rank in ranks]
        return pick(observed), pick(counted), pick(charged)

    def check(self, config, layouts, precision="fp32"):
        for layout in layouts:
            with self.subTest(model=config["model_type"], layout=layout, precision=precision):
                observed, counted, charged = self.count(config, layout, precision)
                self.assertEqual(observed, counted)
                self.assertEqual(counted, charged)
                self.assertGreater(sum(sum(rank.values()) for rank in observed), 0)

    def test_dense_plans(self):
        self.check(LLAMA, LAYOUTS)

    def test_half_precision(self):
        self.check(LLAMA, ["tp=2 sp=1", "pp=2 dp=2 zero=1"], "bf16")

    def test_mixture_of_experts_without_exchange(self):
        self.check(MIXTRAL, ["pp=2 dp=2"])

    def test_exchange_of_experts(self):
        # Every routed row leaves one rank and comes back to it: whatever the routing, all ranks
        # together hand out as many rows as with an even one.
        for layout in ("tp=2 ep=2", "dp=2 ep=2 zero=1"):
            with self.subTest(layout=layout):
                observed, counted, charged = self.count(MIXTRAL, layout)
                self.assertEqual(observed, counted)
                for kind in KINDS:
                    self.assertEqual(
                        sum(rank[kind] for rank in counted), sum(rank[kind] for rank in charged), kind
                    )


if __name__ == "__main__":
    unittest.main()
