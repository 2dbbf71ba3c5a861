// Parts of llama that mixtral shares.
#pragma once

#include <string>
#include <vector>

#include "models/graph_assembler.h"
#include "models/model_family.h"

namespace shardwise {

// What distinguishes the members of the llama family, as their classes in transformers do.
struct LlamaTraits {
  // num_key_value_heads may be missing (it then equals the heads). Elsewhere the classes' default
  // is a number that fits no other model, so the key is compulsory.
  bool kv_heads_optional = false;
  bool head_dim_required = false;
  bool query_bias = false;          // q, k, v biases without a key that says so
  bool has_attention_bias = false;  // key attention_bias: q, k, v and output
  bool has_mlp_bias = false;        // key mlp_bias
  double norm_epsilon = 1e-6;
  double rope_theta = 10000;
};

// Everything but windows and experts.
void read_llama_keys(ConfigReader& reader, ModelConfig& config, const LlamaTraits& traits);

Block llama_embedding(const ModelConfig& config, const BatchShape& shape);
Block llama_head(const ModelConfig& config, const BatchShape& shape);

// Chain of embedding, layers and head with gated dense MLPs.
void llama_build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler);

// down(activation(gate(x)) * up(x)); ops `name`.gate, .up, .activation, .down.
TensorIndex gated_mlp(BlockBuilder& builder,
                      const std::string& name,
                      TensorIndex x,
                      std::int64_t width,
                      const ModelConfig& config);

// A llama layer whose MLP is one of experts (and of a shared expert) where the traits say so. Ops
// "router", "experts", and "shared.*".
Block sparse_decoder(const ModelConfig& config, const BatchShape& shape, const LayerTraits& traits);
TensorIndex sparse_mlp(BlockBuilder& builder, TensorIndex x, const ModelConfig& config);

// The attention half of a decoder layer: x + attention(norm(x)).
TensorIndex llama_attention_half(BlockBuilder& builder,
                                 const ModelConfig& config,
                                 std::int64_t sliding_window);

// Names of embedding, head, norms, attention and dense MLP. Requires one of these.
std::vector<FileSlice> llama_file_slices(const NamedParameter& parameter, CheckpointForm form);

}  // namespace shardwise
