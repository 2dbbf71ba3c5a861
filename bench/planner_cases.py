"""What make bench-planner plans: models, clusters, batches, and the seconds in which each search should end."""

import dataclasses
import json
import pathlib

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
LLAMA_3_70B = LLAMA_3_8B | {
    "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
}
LLAMA_405B = LLAMA_3_8B | {
    "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
}
LLAMA_2_7B = LLAMA_3_8B | {
    "vocab_size": 32000, "intermediate_size": 11008, "num_key_value_heads": 32, "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
}
QWEN3_235B_A22B = {
    "model_type": "qwen3_moe",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "max_position_embeddings": 262144,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}

# 16 nodes of eight A100 and 48 of eight V100, links as in the slower of both.
MIXED = """name: 128-a100-384-v100
groups:
  - {count: 128, device: a100-sxm-40gb}
  - {count: 384, device: v100-sxm-16gb}
levels:
  - {name: nvlink, size: 8, bandwidth: 150 GB/s, latency: 6 us}
  - {name: network, size: 64, bandwidth: 6.25 GB/s, latency: 14 us}
"""


@dataclasses.dataclass(frozen=True)
class Case:
    title: str
    config: dict
    cluster: str  # a preset, or the text of a cluster file
    batch: int
    sequence: int
    bar_s: float  # one free mesh axis, gap 0

    def files(self, folder):
        """(model, cluster) as the command line takes them; written below `folder`."""
        model = pathlib.Path(folder) / "config.json"
        model.write_text(json.dumps(self.config))
        if "\n" not in self.cluster:
            return model, self.cluster
        cluster = pathlib.Path(folder) / "cluster.yaml"
        cluster.write_text(self.cluster)
        return model, cluster


@dataclasses.dataclass(frozen=True)
class Search:
    """How a case is asked. `bar_s`: None takes the case's own."""

    title: str
    free_axes: int
    gap: float
    bar_s: float | None


CASES = [
    Case("llama-3-8b, 8 H100", LLAMA_3_8B, "dgx-h100:1", 64, 4096, 0.1),
    Case("llama-3-70b, 512 H100", LLAMA_3_70B, "dgx-h100:64", 1024, 8192, 0.5),
    Case("llama-3-70b, 512 H100", LLAMA_3_70B, "dgx-h100:64", 1920, 8192, 0.5),
    Case("llama-405b, 512 H100", LLAMA_405B, "dgx-h100:64", 2048, 8192, 1),
    Case("llama-405b, 2,048 H100", LLAMA_405B, "dgx-h100:256", 2048, 8192, 1),
    Case("llama-405b, 16,384 H100", LLAMA_405B, "dgx-h100:2048", 2048, 8192, 1),
    Case("qwen3-235b-a22b, 1,024 H100", QWEN3_235B_A22B, "dgx-h100:128", 1024, 4096, 1),
    Case("llama-2-7b, 128 A100 + 384 V100", LLAMA_2_7B, MIXED, 1024, 4096, 1),
]
SEARCHES = [
    Search("one axis, gap 0", 1, 0, None),
    Search("two axes, gap 1 %", 2, 0.01, 1),
    Search("two axes, gap 0", 2, 0, 20),
]
MEMORY_BAR_MIB = 2e9 / 2**20


def layer_curve():
    """The shape of llama-3-70b with more and more layers on 64 devices."""
    for layers in (10, 20, 40, 80, 160):
        config = LLAMA_3_70B | {"num_hidden_layers": layers}
        yield layers, Case(f"{layers} layers", config, "dgx-h100:8", 256, 8192, 1)


def device_curve():
    """llama-3-70b on more and more devices, two sequences for each."""
    for nodes in (4, 8, 16, 32, 64, 128, 256):
        yield 8 * nodes, Case(f"{8 * nodes} devices", LLAMA_3_70B, f"dgx-h100:{nodes}", 16 * nodes, 8192, 1)
