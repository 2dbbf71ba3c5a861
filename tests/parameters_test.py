"""Names and shapes of all parameters, against the classes of transformers.

Random small configurations of every family (but `deepseek` and `wide_resnet`, which transformers lacks)
are written by transformers itself, read here, and every tensor in files must have the name and the
shape of the class's state dictionary. Seeds are printed with each difference.
"""

import json
import os
import pathlib
import random
import re
import subprocess
import tempfile
import unittest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch
import transformers

PROGRAM = os.environ.get("SHARDWISE_PRINT_PARAMETERS", "build/planner/tests/print_parameters")
SEEDS = range(5)


def decoder(rng):
    kv_heads = rng.choice([1, 2, 3])
    heads = kv_heads * rng.choice([1, 2])
    return {
        "vocab_size": rng.randrange(20, 200),
        "hidden_size": heads * rng.choice([8, 16]),
        "intermediate_size": rng.randrange(8, 64),
        "num_hidden_layers": rng.randrange(1, 4),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": rng.random() < 0.5,
    }


def with_heads(rng):
    return {**decoder(rng), "head_dim": rng.choice([8, 24])}


def plain(rng):
    sizes = decoder(rng)
    del sizes["num_key_value_heads"]
    return sizes


def experts(rng, count):
    return {
        count: rng.randrange(2, 6),
        "num_experts_per_tok": rng.randrange(1, 3),
        "moe_intermediate_size": rng.randrange(4, 40),
        "norm_topk_prob": rng.random() < 0.5,
    }


def sparse_layers(rng):
    return {"decoder_sparse_step": rng.choice([1, 2]), "mlp_only_layers": rng.choice([[], [0]])}


def latent(rng):
    sizes = {
        **decoder(rng),
        **experts(rng, "n_routed_experts"),
        "n_shared_experts": rng.randrange(1, 3),
        "first_k_dense_replace": rng.randrange(0, 3),
        "q_lora_rank": rng.choice([None, 12]),
        "kv_lora_rank": rng.randrange(4, 30),
        "qk_nope_head_dim": rng.choice([6, 10]),
        "qk_rope_head_dim": rng.choice([4, 8]),
        "v_head_dim": rng.choice([5, 12]),
        "tie_word_embeddings": False,
    }
    sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    return sizes


def image(rng):
    return {
        "image_size": 32,
        "num_channels": rng.choice([1, 3]),
        "num_labels": rng.randrange(2, 9),
        "qkv_bias": rng.random() < 0.5,
    }


def vit(rng):
    sizes = {**plain(rng), **image(rng), "patch_size": rng.choice([8, 16])}
    del sizes["vocab_size"], sizes["tie_word_embeddings"]
    return sizes


def swin(rng):
    stages = rng.randrange(1, 4)
    heads = [rng.choice([1, 2]) * 2**stage for stage in range(stages)]
    return {
        **image(rng),
        "patch_size": 2,
        "window_size": rng.choice([2, 4, 16]),
        "embed_dim": 8,
        "depths": [rng.randrange(1, 3) for _ in range(stages)],
        "num_heads": heads,
        "mlp_ratio": rng.choice([2.0, 4.0]),
    }


def t5(rng):
    return {
        "vocab_size": rng.randrange(20, 200),
        "d_model": rng.choice([16, 24]),
        "d_kv": rng.choice([4, 8]),
        "d_ff": rng.randrange(8, 64),
        "num_layers": rng.randrange(1, 4),
        "num_decoder_layers": rng.randrange(1, 4),
        "num_heads": rng.randrange(1, 4),
        "relative_attention_num_buckets": rng.randrange(4, 33),
        "feed_forward_proj": rng.choice(["relu", "gated-gelu", "gelu"]),
        "tie_word_embeddings": rng.random() < 0.5,
    }


def gpt2(rng):
    heads = rng.choice([1, 2, 4])
    return {
        "vocab_size": rng.randrange(20, 200),
        "n_positions": 64,
        "n_embd": heads * 8,
        "n_layer": rng.randrange(1, 4),
        "n_head": heads,
    }


def neox(rng):
    return {**plain(rng), "use_parallel_residual": rng.random() < 0.5}


FAMILIES = {
    "bert": (transformers.BertConfig, transformers.BertForPreTraining, plain),
    "bert masked": (transformers.BertConfig, transformers.BertForMaskedLM, plain),
    "deepseek_v2": (transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM, latent),
    "deepseek_v3": (transformers.DeepseekV3Config, transformers.DeepseekV3ForCausalLM, latent),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM, with_heads),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, gpt2),
    "gpt_neox": (transformers.GPTNeoXConfig, transformers.GPTNeoXForCausalLM, neox),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, decoder),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, decoder),
    "mixtral": (
        transformers.MixtralConfig,
        transformers.MixtralForCausalLM,
        lambda rng: {**decoder(rng), "num_local_experts": 3, "router_jitter_noise": 0.0},
    ),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, decoder),
    "qwen2_moe": (
        transformers.Qwen2MoeConfig,
        transformers.Qwen2MoeForCausalLM,
        lambda rng: {
            **decoder(rng),
            **experts(rng, "num_experts"),
            **sparse_layers(rng),
            "shared_expert_intermediate_size": rng.randrange(4, 40),
            "qkv_bias": rng.random() < 0.5,
        },
    ),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, with_heads),
    "qwen3_moe": (
        transformers.Qwen3MoeConfig,
        transformers.Qwen3MoeForCausalLM,
        lambda rng: {**with_heads(rng), **experts(rng, "num_experts"), **sparse_layers(rng)},
    ),
    "swin": (transformers.SwinConfig, transformers.SwinForImageClassification, swin),
    "t5": (transformers.T5Config, transformers.T5ForConditionalGeneration, t5),
    "vit": (transformers.ViTConfig, transformers.ViTForImageClassification, vit),
}

# Names that hold the values of another tensor of the same model.
COPIES = re.compile(r"(encoder|decoder)\.embed_tokens\.weight|cls\.predictions\.bias")
TIED_HEADS = {"bert": "cls.predictions.decoder.weight"}


def separate_experts(name, shape, family):
    """The one tensor of all experts as published files have it: one matrix an expert."""
    module, _, kind = name.partition(".mlp.experts.")
    gate, up, down = ("w1", "w3", "w2") if family == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    parent = "block_sparse_moe" if family == "mixtral" else "mlp"
    count, rows, columns = shape
    parts = {gate: [rows // 2, columns], up: [rows // 2, columns]} if kind == "gate_up_proj" else {down: [rows, columns]}
    return {
        f"{module}.{parent}.experts.{expert}.{part}.weight": part_shape
        for expert in range(count)
        for part, part_shape in parts.items()
    }


def expected_shapes(model, config, family):
    shapes = {}
    tied_head = TIED_HEADS.get(family, "lm_head.weight") if getattr(config, "tie_word_embeddings", False) else None
    for name, tensor in model.state_dict().items():
        shape = list(tensor.shape)
        # BERT: tied whatever the head of the class is; buffers hold nothing learned.
        if COPIES.fullmatch(name) or name == tied_head:
            continue
        if ".mlp.experts." in name:
            shapes.update(separate_experts(name, shape, family))
        elif family == "mixtral" and name.endswith(".mlp.gate.weight"):
            shapes[name.replace(".mlp.", ".block_sparse_moe.")] = shape
        else:
            shapes[name] = shape
    return shapes


class Parameters(unittest.TestCase):
    maxDiff = None

    def compare(self, key, seed):
        make_config, model_class, sizes = FAMILIES[key]
        family = key.split()[0]
        config = make_config(**sizes(random.Random(f"{key} {seed}")))
        with torch.device("meta"):
            model = model_class(config)
        config.architectures = [model_class.__name__]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "config.json"
            config.save_pretrained(folder)
            result = subprocess.run([PROGRAM, str(path)], capture_output=True, text=True, check=False)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(result.stdout), expected_shapes(model, config, family))

    def test_names_and_shapes(self):
        for key in FAMILIES:
            for seed in SEEDS:
                with self.subTest(family=key, seed=seed):
                    self.compare(key, seed)


if __name__ == "__main__":
    unittest.main()
