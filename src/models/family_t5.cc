// T5 (Raffel et al., JMLR 2020): an encoder and a decoder that attends to it, RMS norms, no biases,
// scores with a learned bias by relative position that all layers of a stack share.
//
// Layers: "embedding", "encoder.layer.0", ..., "decoder.layer.0", ..., "head". They are a chain
// that hands on pairs [b, s, 2, h]: the encoder's hidden state with the decoder's embedded tokens,
// then the encoder's output with the decoder's hidden state. So the shared table is read once, by
// the first layer, for both; both stacks read `sequence` tokens.
//
// Left out: a pair has one layout; what travels along is kept once a layer where backward reads it,
// though it is the same tensor in all of a stage; sums of the relative biases' gradients
// (graph/op.h: Graph::copied).
#include <fmt/format.h>

#include "core/errors.h"
#include "models/graph_assembler.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read_mlp(ConfigReader& reader, ModelConfig& config) {
  // transformers: "relu", "gelu", ... or "gated-" before it; "gated-gelu" means gelu_new.
  const std::string kind = reader.text("feed_forward_proj", "relu");
  const std::string prefix = "gated-";
  config.gated_mlp = kind.starts_with(prefix);
  const std::string name = config.gated_mlp ? kind.substr(prefix.size()) : kind;
  if (name == "relu" || name == "silu") {
    config.activation = name;
  } else if (name == "gelu" || name == "gelu_new") {
    config.activation = config.gated_mlp || name == "gelu_new" ? "gelu_tanh" : "gelu";
  } else {
    throw reader.root()
        .at("feed_forward_proj")
        .unexpected("\"relu\", \"gelu\", \"silu\", or one of them after \"gated-\"");
  }
  reader.ignore({"is_gated_act", "dense_act_fn"});  // derived from it
}

void read(ConfigReader& reader, ModelConfig& config) {
  config.hidden_size = reader.size("d_model");
  config.num_layers = reader.size("num_layers", kMostLayers);
  config.decoder_layers = reader.find("num_decoder_layers")
                              ? reader.size("num_decoder_layers", kMostLayers)
                              : config.num_layers;
  config.num_heads = config.num_kv_heads = reader.size("num_heads");
  config.head_dim = reader.size("d_kv");
  config.ffn_width = reader.size("d_ff");
  config.vocabulary = reader.size("vocab_size", kLargestTable);
  config.relative_buckets = reader.size("relative_attention_num_buckets");
  config.positions = kLargestTable;  // relative positions know no longest sequence
  if (config.num_heads * config.head_dim > kLargestSize) {
    throw reader.root().at("num_heads").unexpected("fewer or smaller heads");
  }
  config.tied_embeddings = reader.flag("tie_word_embeddings", true);
  config.norm_epsilon = reader.number("layer_norm_epsilon", 1e-6, 0, 1);
  config.initializer_range = 0.02;
  config.causal = false;
  read_mlp(reader, config);
  reader.flag("is_encoder_decoder", true);
  reader.require_flag("is_encoder_decoder", true, "a decoder without its encoder is not supported");
  reader.accept("is_encoder_decoder");
  reader.number("relative_attention_max_distance", 128, 1, 1e9);
  reader.number("initializer_factor", 1, 0, 1e6);
  reader.ignore({"n_positions", "output_past", "scale_decoder_outputs"});
  reader.dropout("dropout_rate", 0.1);
  reader.refusals.emplace_back("encoder and decoder (relative positions, cross-attention)");
}

// x + attention(norm(x)) with the keys of `memory`; its own if it is x.
struct AttentionKind {
  std::string name;
  bool causal = false;
  bool crosses = false;
};
TensorIndex attention_half(BlockBuilder& builder,
                           TensorIndex x,
                           TensorIndex memory,
                           const AttentionKind& kind,
                           const ModelConfig& config) {
  const LoopAxis h{"h", config.hidden_size};
  const LoopAxis n{"n", config.num_heads};
  const LoopAxis r{"r", 1};
  const LoopAxis d{"d", config.head_dim, AxisSharding::kNever};
  const double stddev = config.initializer_range;
  const std::string& name = kind.name;
  const TensorIndex normed = builder.rms_norm(name + ".norm", x, config.norm_epsilon);
  const TensorIndex source = kind.crosses ? memory : normed;
  const TensorIndex q = builder.linear(name + ".q", normed, {h}, {n, r, d}, false, stddev);
  const TensorIndex k = builder.linear(name + ".k", source, {h}, {n, d}, false, stddev);
  const TensorIndex v = builder.linear(name + ".v", source, {h}, {n, d}, false, stddev);
  const BlockBuilder::AttentionSettings settings{.causal = kind.causal, .scale = 1};
  const TensorIndex mixed =
      kind.crosses ? builder.attention(name + ".core", q, k, v, settings)
                   : builder.relative_attention(
                         name + ".core", q, k, v, config.relative_buckets, settings, stddev);
  const TensorIndex out = builder.linear(name + ".o", mixed, {n, r, d}, {h}, false, stddev);
  return builder.add(name + ".add", x, out);
}

TensorIndex mlp_half(BlockBuilder& builder, TensorIndex x, const ModelConfig& config) {
  const LoopAxis h{"h", config.hidden_size};
  const LoopAxis f{"f", config.ffn_width};
  const double stddev = config.initializer_range;
  const TensorIndex normed = builder.rms_norm("mlp.norm", x, config.norm_epsilon);
  if (!config.gated_mlp) {
    return builder.add(
        "mlp.add", x, plain_mlp(builder, "mlp", normed, h, config.ffn_width, config));
  }
  const TensorIndex gate = builder.linear("mlp.gate", normed, {h}, {f}, false, stddev);
  const TensorIndex up = builder.linear("mlp.up", normed, {h}, {f}, false, stddev);
  const TensorIndex active =
      builder.gated_activation("mlp.activation", gate, up, config.activation);
  return builder.add("mlp.add", x, builder.linear("mlp.down", active, {f}, {h}, false, stddev));
}

Block embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  builder.boundary_output(builder.embedding("token",
                                            builder.token_pairs(),
                                            config.vocabulary,
                                            config.hidden_size,
                                            config.initializer_range));
  return std::move(builder).build();
}

enum class Place { kInner, kLast };

TensorIndex pair_input(BlockBuilder& builder, const ModelConfig& config, const BatchShape& shape) {
  return builder.boundary_input(
      "input", {{"s", shape.sequence}, {"p", 2, AxisSharding::kNever}, {"h", config.hidden_size}});
}

// What the decoder reads is normed.
Block encoder_layer(const ModelConfig& config, const BatchShape& shape, Place place) {
  BlockBuilder builder("encoder", shape.microbatch, shape.sequence);
  const auto [x, embedded] = builder.unstack("parts", pair_input(builder, config, shape));
  const TensorIndex y = attention_half(builder, x, x, {.name = "attention"}, config);
  TensorIndex z = mlp_half(builder, y, config);
  if (place == Place::kLast) {
    z = builder.rms_norm("encoder.norm", z, config.norm_epsilon);
  }
  builder.boundary_output(builder.stack("pair", z, embedded));
  return std::move(builder).build();
}

Block decoder_layer(const ModelConfig& config, const BatchShape& shape, Place place) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const auto [memory, x] = builder.unstack("parts", pair_input(builder, config, shape));
  const TensorIndex y =
      attention_half(builder, x, x, {.name = "attention", .causal = true}, config);
  const TensorIndex z =
      attention_half(builder, y, memory, {.name = "cross_attention", .crosses = true}, config);
  const TensorIndex hidden = mlp_half(builder, z, config);
  builder.boundary_output(place == Place::kLast ? hidden : builder.stack("pair", memory, hidden));
  return std::move(builder).build();
}

Block head(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("head", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  language_model_head(builder, builder.rms_norm("norm", x, config.norm_epsilon), config);
  return std::move(builder).build();
}

using MakeLayer = Block (*)(const ModelConfig&, const BatchShape&, Place);

void add_stack(const std::string& name,
               std::int64_t layers,
               MakeLayer make,
               const ModelConfig& config,
               const BatchShape& shape,
               GraphAssembler& assembler) {
  const std::string first = name + ".layer.0";
  for (std::int64_t index = 0; index < layers; ++index) {
    const std::string layer = fmt::format("{}.layer.{}", name, index);
    const Place place = index + 1 == layers ? Place::kLast : Place::kInner;
    assembler.add(layer, name + (place == Place::kLast ? ".last" : ""), [&] {
      return make(config, shape, place);
    });
    if (index > 0) {
      assembler.copy(first, layer, "attention.core.bias");
    }
  }
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  assembler.add("embedding", "embedding", [&] { return embedding(config, shape); });
  add_stack("encoder", config.num_layers, encoder_layer, config, shape, assembler);
  add_stack("decoder", config.decoder_layers, decoder_layer, config, shape, assembler);
  assembler.add("head", "head", [&] { return head(config, shape); });
  if (config.tied_embeddings) {
    assembler.tie("embedding", "token.weight", "head", "linear.weight");
  }
}

// "encoder.layer.3" -> "encoder.block.3.layer."
std::string block_of(std::string_view layer) {
  std::string name(layer);
  name.replace(name.find(".layer."), 7, ".block.");
  return name + ".layer.";
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm) {
  constexpr FileName kAttention[] = {
      {"attention.norm", "0.layer_norm", 0},
      {"attention.q", "0.SelfAttention.q", 3},
      {"attention.k", "0.SelfAttention.k", 2},
      {"attention.v", "0.SelfAttention.v", 2},
      {"attention.o", "0.SelfAttention.o", 1},
      {"cross_attention.norm", "1.layer_norm", 0},
      {"cross_attention.q", "1.EncDecAttention.q", 3},
      {"cross_attention.k", "1.EncDecAttention.k", 2},
      {"cross_attention.v", "1.EncDecAttention.v", 2},
      {"cross_attention.o", "1.EncDecAttention.o", 1},
  };
  constexpr FileName kEnds[] = {{"token", "shared", 1},
                                {"encoder.norm", "encoder.final_layer_norm", 0},
                                {"norm", "decoder.final_layer_norm", 0},
                                {"linear", "lm_head", 1}};
  const Tensor& tensor = parameter.tensor;
  std::optional<FileSlice> slice = find_file_slice(kEnds, tensor, "");
  if (!slice) {
    const std::string block = block_of(parameter.layer);
    const bool is_decoder = parameter.layer.starts_with("decoder.");
    const std::string mlp = is_decoder ? "2." : "1.";
    const std::string up = parameter.config.gated_mlp ? "DenseReluDense.wi_1" : "DenseReluDense.wi";
    const FileName mlp_names[] = {{"mlp.norm", "layer_norm", 0},
                                  {"mlp.gate", "DenseReluDense.wi_0", 1},
                                  {"mlp.up", up, 1},
                                  {"mlp.down", "DenseReluDense.wo", 1}};
    slice = tensor.name == "attention.core.bias"
                ? whole_tensor(block + "0.SelfAttention.relative_attention_bias.weight", tensor, 1)
                : find_file_slice(kAttention, tensor, block);
    if (!slice) {
      slice = find_file_slice(mlp_names, tensor, block + mlp);
    }
  }
  SHARDWISE_CHECK(slice.has_value(), "no name in files for " + tensor.name);
  return {*slice};
}

}  // namespace

ModelFamily t5_family() { return {"t5", "", /*has_fused_form=*/false, read, build, file_slices}; }

}  // namespace shardwise
