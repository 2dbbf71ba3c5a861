// GPT-NeoX (Black et al., arXiv:2204.06745): layer norms, biases everywhere, a part of each head
// turned by its position, attention and MLP side by side or one after the other, head not tied.
//
// In files each head's queries, keys and values lie one after the other in query_key_value.
#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "models/graph_assembler.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read_rotary(ConfigReader& reader, ModelConfig& config) {
  RopeConfig rope;
  rope.theta = reader.number("rotary_emb_base", 10000, 1e-6, 1e30);
  rope.theta = reader.number("rope_theta", rope.theta, 1e-6, 1e30);
  double part = reader.number("rotary_pct", 0.25, 0, 1);
  part = reader.number("partial_rotary_factor", part, 0, 1);
  reader.require_absent("rope_scaling", "scaled rotary positions are not supported here");
  if (const auto settings = reader.find("rope_parameters")) {
    settings->reject_unknown_keys({"rope_type", "rope_theta", "partial_rotary_factor"});
    if (const auto type = settings->find("rope_type"); type && type->as_string() != "default") {
      throw type->unexpected("\"default\"");
    }
    if (const auto theta = settings->find("rope_theta")) {
      rope.theta = theta->as_double(1e-6, 1e30);
    }
    if (const auto factor = settings->find("partial_rotary_factor")) {
      part = factor->as_double(0, 1);
    }
  }
  config.rotary_dims = static_cast<std::int64_t>(part * static_cast<double>(config.head_dim));
  if (config.rotary_dims < 2 || config.rotary_dims % 2 != 0) {
    throw reader.root().error(fmt::format(
        "expected a rotary part of each head of 2, 4, ... dimensions, found {} of {}; see "
        "rotary_pct, hidden_size and num_attention_heads",
        config.rotary_dims,
        config.head_dim));
  }
  config.rope = rope;
}

void read(ConfigReader& reader, ModelConfig& config) {
  config.hidden_size = reader.size("hidden_size");
  config.num_layers = reader.size("num_hidden_layers", kMostLayers);
  config.ffn_width = reader.size("intermediate_size");
  config.vocabulary = reader.size("vocab_size", kLargestTable);
  config.positions = reader.size("max_position_embeddings", kLargestTable);
  config.num_heads = config.num_kv_heads = reader.size("num_attention_heads");
  if (config.hidden_size % config.num_heads != 0) {
    throw reader.root()
        .at("num_attention_heads")
        .unexpected(fmt::format("a divisor of hidden_size {}", config.hidden_size));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  config.attention_scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  config.tied_embeddings = reader.flag("tie_word_embeddings", false);
  config.norm_epsilon = reader.number("layer_norm_eps", 1e-5, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 100);
  config.activation = read_activation(reader, "hidden_act", "gelu");
  config.query_bias = config.output_bias = reader.flag("attention_bias", true);
  config.mlp_bias = true;
  config.parallel_residual = reader.flag("use_parallel_residual", true);
  read_rotary(reader, config);
  for (const char* key : {"attention_dropout",
                          "hidden_dropout",
                          "attention_probs_dropout_prob",
                          "hidden_dropout_prob"}) {
    reader.dropout(key, 0);
  }
  read_sliding_windows(reader, config, 0, 0, LayerTypes::kMustAgree);
}

Block embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  builder.boundary_output(builder.embedding(
      "token", builder.tokens(), config.vocabulary, config.hidden_size, config.initializer_range));
  return std::move(builder).build();
}

Block decoder(const ModelConfig& config, const BatchShape& shape, const LayerTraits& traits) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const LoopAxis h{"h", config.hidden_size};
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex attention_in = builder.layer_norm("attention.norm", x, config.norm_epsilon);
  const TensorIndex attended = self_attention(
      builder, attention_in, config, traits.sliding_window, config.initializer_range);
  const TensorIndex y = builder.add("attention.add", x, attended);
  const TensorIndex mlp_in =
      builder.layer_norm("mlp.norm", config.parallel_residual ? x : y, config.norm_epsilon);
  const TensorIndex down = plain_mlp(builder, "mlp", mlp_in, h, config.ffn_width, config);
  builder.boundary_output(builder.add("mlp.add", y, down));
  return std::move(builder).build();
}

Block head(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("head", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  language_model_head(builder, builder.layer_norm("norm", x, config.norm_epsilon), config);
  return std::move(builder).build();
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {embedding, decoder, head}, assembler);
}

// q, k or v (`part` 0, 1, 2) of each head in the fused tensor.
std::vector<FileSlice> fused(const NamedParameter& parameter, std::int64_t part) {
  const std::vector<std::int64_t>& shape = parameter.tensor.shape;
  const bool is_bias = parameter.tensor.name.ends_with(".bias");
  const std::int64_t heads = parameter.config.num_heads;
  const std::int64_t width = parameter.config.head_dim;
  std::vector<FileSlice> slices;
  for (std::int64_t head = 0; head < heads; ++head) {
    FileSlice slice;
    slice.file_name = fmt::format("gpt_neox.layers.{}.attention.query_key_value.{}",
                                  parameter.decoder,
                                  is_bias ? "bias" : "weight");
    slice.file_shape = {3 * heads * width};
    if (!is_bias) {
      slice.file_shape.push_back(shape.back());
    }
    slice.leading_begin = head;
    slice.leading_size = 1;
    slice.row_offset = (3 * head + part) * width;
    slices.push_back(std::move(slice));
  }
  return slices;
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm) {
  constexpr FileName kNames[] = {
      {"attention.norm", "input_layernorm", 0},
      {"attention.o", "attention.dense", 1},
      {"mlp.norm", "post_attention_layernorm", 0},
      {"mlp.up", "mlp.dense_h_to_4h", 1},
      {"mlp.down", "mlp.dense_4h_to_h", 1},
  };
  constexpr FileName kEnds[] = {{"token", "gpt_neox.embed_in", 1},
                                {"norm", "gpt_neox.final_layer_norm", 0},
                                {"linear", "lm_head", 1}};
  const std::string& name = parameter.tensor.name;
  std::int64_t part = 0;
  for (const char* fused_name : {"attention.q.", "attention.k.", "attention.v."}) {
    if (name.starts_with(fused_name)) {
      return fused(parameter, part);
    }
    ++part;
  }
  const bool is_decoder = parameter.part == NamedParameter::Part::kDecoder;
  const auto slice =
      is_decoder
          ? find_file_slice(
                kNames, parameter.tensor, fmt::format("gpt_neox.layers.{}.", parameter.decoder))
          : find_file_slice(kEnds, parameter.tensor, "");
  SHARDWISE_CHECK(slice.has_value(), "no name in files for " + name);
  return {*slice};
}

}  // namespace

ModelFamily gpt_neox_family() {
  return {"gpt_neox", "gpt_neox.", /*has_fused_form=*/false, read, build, file_slices};
}

}  // namespace shardwise
