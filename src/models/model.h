// Model configurations and the graphs they describe.
//
//   const ModelConfig config = read_model_config("path/to/config.json");
//   const Graph graph = build_graph(config, /*microbatch=*/4, /*sequence=*/1024);
//
// Families: model_types() in model_family.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "files/json.h"
#include "graph/op.h"

namespace shardwise {

// Rotary positions. `type` and `parameters` as OpAttributes::rope_type and rope_parameters.
struct RopeConfig {
  double theta = 10000;
  std::string type = "default";
  std::vector<double> parameters;

  bool operator==(const RopeConfig&) const = default;
};

// An image model. Transformers cut the image into patches; stages of blocks halve its sides.
struct ImageConfig {
  std::int64_t channels = 3;
  std::int64_t size = 0;  // pixels of a side
  std::int64_t labels = 0;
  std::int64_t patch = 0;            // pixels of a patch's side; 0: convolutions
  std::int64_t window = 0;           // patches of an attention window's side
  std::int64_t width = 0;            // features of the first stage
  std::int64_t widening = 1;         // wide residual networks: of the inner convolutions
  double mlp_ratio = 4;              // width of the MLP over that of its stage
  std::vector<std::int64_t> depths;  // blocks of each stage
  std::vector<std::int64_t> heads;   // attention heads of each stage

  bool operator==(const ImageConfig&) const = default;
};

// Multi-head latent attention: sizes of the latents and of the parts of a head.
struct LatentAttention {
  std::int64_t query_rank = 0;  // 0: queries are not narrowed
  std::int64_t rank = 0;        // of the latent that keys and values share
  std::int64_t plain_dim = 0;   // of a key without position
  std::int64_t rotary_dim = 0;  // of the rotary key that all heads share
  std::int64_t value_dim = 0;

  bool operator==(const LatentAttention&) const = default;
};

// What a Hugging Face config.json says about the model, absent keys filled with the defaults of the
// transformers class. Plain data; read_model_config makes valid ones.
struct ModelConfig {
  std::string model_type;
  std::string source;  // file, for messages
  std::string json;    // the whole configuration, to be written beside checkpoints

  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;  // divides num_heads
  std::int64_t head_dim = 0;
  std::int64_t ffn_width = 0;
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;  // longest sequence
  bool tied_embeddings = false;

  double norm_epsilon = 1e-5;
  double initializer_range = 0.02;
  std::string activation;    // as OpAttributes::function, or transformers' name if we have none
  bool query_bias = false;   // biases of q, k, v
  bool output_bias = false;  // bias of the projection after attention
  bool mlp_bias = false;
  bool query_norm = false;         // RMS norms of q and k heads
  bool causal = true;              // false: an encoder, every token sees all others
  double attention_scale = 1;      // factor of q k^T
  double attention_softcap = 0;    // 0: none; else scores become softcap tanh(score / softcap)
  std::optional<RopeConfig> rope;  // unset: learned positions
  std::vector<std::int64_t> sliding_windows;  // per layer; 0: none, else keys with q - k < window
  std::int64_t num_experts = 0;               // 0: a dense MLP
  std::int64_t experts_per_token = 0;
  std::int64_t expert_width = 0;  // of one expert's MLP
  std::int64_t shared_width = 0;  // of the MLP that every token takes beside its experts; 0: none
  bool shared_gate = false;       // it is weighted by a sigmoid of the token
  bool router_bias = false;       // a bias that only chooses experts
  std::optional<LatentAttention> latent;   // instead of q, k and v from the hidden state
  bool normalize_topk = true;              // the chosen experts' weights sum to one
  std::vector<std::int8_t> sparse_layers;  // per layer: 1 experts, 0 a dense MLP

  std::int64_t rotary_dims = 0;       // leading part of a head that turns; 0: all of it
  bool parallel_residual = false;     // attention and MLP read the same hidden state
  double final_softcap = 0;           // 0: none; else logits become softcap tanh(logit / softcap)
  std::string objective;              // bert: "pretraining", "masked" or "pooled" (family_bert.cc)
  std::int64_t token_types = 0;       // bert
  std::int64_t decoder_layers = 0;    // t5: beside num_layers encoder layers
  std::int64_t relative_buckets = 0;  // t5
  bool gated_mlp = true;              // t5
  std::optional<ImageConfig> image;
  std::int64_t fixed_sequence = 0;  // images: the sequence that their size gives; 0: any

  std::vector<std::string> warnings;  // "attn_pdrop 0.1 counts as 0: ..."
  std::vector<std::string> refusals;  // see training_refusals

  bool operator==(const ModelConfig&) const = default;
};

// Reads a config.json, or the one in the folder `path`. `model_type` overrides that of the file
// (some files lack it). Throws InputError with file, line and key for: unreadable or malformed
// files, an unknown model_type, missing or impossible structural keys, values that change the model
// in a way that is not supported, and keys that nobody here knows: they may change the model, so
// they are never guessed at.
ModelConfig read_model_config(const std::filesystem::path& path,
                              const std::optional<std::string>& model_type = std::nullopt);

// The same for a configuration inside another document (a plan file).
ModelConfig parse_model_config(const JsonValue& value,
                               const std::optional<std::string>& model_type = std::nullopt);

// Graph of one micro-batch of `microbatch` sequences of `sequence` tokens. Layers: "embedding",
// "layer.0", ..., "head" (final norm, linear, cross entropy). Layers that are alike share a block.
// A sliding window that covers the whole sequence changes nothing and is left out.
// Image models have stages and blocks, encoder-decoder models two stacks of layers instead.
// Throws InputError if `sequence` exceeds the model's positions, differs from fixed_sequence or a
// tensor would have more than 1e15 elements. Requires both sizes positive.
Graph build_graph(const ModelConfig& config, std::int64_t microbatch, std::int64_t sequence);

// Features that can be planned but not trained yet, by key and value; empty: trainable.
std::vector<std::string> training_refusals(const ModelConfig& config);

}  // namespace shardwise
