// llama, mistral, qwen2 and qwen3: rotary positions, RMS norms before attention and gated MLP,
// grouped key/value heads. They differ in biases, q/k norms and sliding windows.
#include "models/family_llama.h"

#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "models/rope.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read_heads(ConfigReader& reader, ModelConfig& config, const LlamaTraits& traits) {
  config.num_heads = reader.size("num_attention_heads");
  const bool has_kv_heads = reader.contains("num_key_value_heads");
  config.num_kv_heads = has_kv_heads || traits.kv_heads_optional
                            ? reader.size_or("num_key_value_heads", config.num_heads)
                            : reader.size("num_key_value_heads");
  if (config.num_heads % config.num_kv_heads != 0) {
    throw reader.root()
        .at("num_key_value_heads")
        .unexpected(fmt::format("a divisor of num_attention_heads {}", config.num_heads));
  }
  if (traits.head_dim_required || reader.find("head_dim")) {
    config.head_dim = reader.size("head_dim");
  } else if (config.hidden_size % config.num_heads == 0) {
    config.head_dim = config.hidden_size / config.num_heads;
  } else {
    throw reader.root()
        .at("num_attention_heads")
        .unexpected(fmt::format("a divisor of hidden_size {}", config.hidden_size),
                    "or give head_dim");
  }
  if (config.num_heads * config.head_dim > kLargestSize) {
    throw reader.root().at("num_attention_heads").unexpected("fewer or smaller heads");
  }
  config.attention_scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
}

}  // namespace

void read_llama_keys(ConfigReader& reader, ModelConfig& config, const LlamaTraits& traits) {
  config.hidden_size = reader.size("hidden_size");
  config.num_layers = reader.size("num_hidden_layers", kMostLayers);
  config.ffn_width = reader.size("intermediate_size");
  config.vocabulary = reader.size("vocab_size", kLargestTable);
  config.positions = reader.size("max_position_embeddings", kLargestTable);
  read_heads(reader, config, traits);
  config.tied_embeddings = reader.flag("tie_word_embeddings", false);
  config.norm_epsilon = reader.number("rms_norm_eps", traits.norm_epsilon, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 100);
  config.activation = read_activation(reader, "hidden_act", "silu");
  config.query_bias = traits.query_bias;
  if (traits.has_attention_bias) {
    config.query_bias = config.output_bias = reader.flag("attention_bias", false);
  } else {
    reader.require_flag("attention_bias", false, config.model_type + " has no such biases");
  }
  if (traits.has_mlp_bias) {
    config.mlp_bias = reader.flag("mlp_bias", false);
  } else {
    reader.require_flag("mlp_bias", false, config.model_type + " has no such biases");
  }
  config.rope = read_rope(reader, config, traits.rope_theta);
  reader.dropout("attention_dropout", 0);
  if (const auto padding = reader.find("pad_token_id"); padding && padding->as_int64() >= 0) {
    reader.warnings.push_back(fmt::format(
        "pad_token_id {}: transformers never updates that row of the embedding, Shardwise does; "
        "keep the token out of the data",
        padding->as_int64()));
  }
}

Block llama_embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  builder.boundary_output(builder.embedding(
      "token", builder.tokens(), config.vocabulary, config.hidden_size, config.initializer_range));
  return std::move(builder).build();
}

Block llama_head(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("head", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  language_model_head(builder, builder.rms_norm("norm", x, config.norm_epsilon), config);
  return std::move(builder).build();
}

TensorIndex llama_attention_half(BlockBuilder& builder,
                                 const ModelConfig& config,
                                 std::int64_t sliding_window) {
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex normed = builder.rms_norm("attention.norm", x, config.norm_epsilon);
  const TensorIndex attended =
      self_attention(builder, normed, config, sliding_window, config.initializer_range);
  return builder.add("attention.add", x, attended);
}

TensorIndex gated_mlp(BlockBuilder& builder,
                      const std::string& name,
                      TensorIndex x,
                      std::int64_t width,
                      const ModelConfig& config) {
  const LoopAxis h{"h", config.hidden_size};
  const LoopAxis f{"f", width};
  const double stddev = config.initializer_range;
  const TensorIndex gate = builder.linear(name + ".gate", x, {h}, {f}, config.mlp_bias, stddev);
  const TensorIndex up = builder.linear(name + ".up", x, {h}, {f}, config.mlp_bias, stddev);
  const TensorIndex active =
      builder.gated_activation(name + ".activation", gate, up, config.activation);
  return builder.linear(name + ".down", active, {f}, {h}, config.mlp_bias, stddev);
}

std::vector<FileSlice> llama_file_slices(const NamedParameter& parameter, CheckpointForm) {
  const std::string& name = parameter.tensor.name;
  if (parameter.part == NamedParameter::Part::kEmbedding) {
    return {whole_tensor("model.embed_tokens.weight", parameter.tensor, 1)};
  }
  if (parameter.part == NamedParameter::Part::kHead) {
    return {name == "linear.weight" ? whole_tensor("lm_head.weight", parameter.tensor, 1)
                                    : whole_tensor("model.norm.weight", parameter.tensor, 0)};
  }
  struct Name {
    std::string_view ours, theirs;
    int out_dims;  // of a weight; 0: a vector
  };
  constexpr Name kNames[] = {
      {"attention.norm.", "input_layernorm.", 0},
      {"attention.q.", "self_attn.q_proj.", 3},
      {"attention.k.", "self_attn.k_proj.", 2},
      {"attention.v.", "self_attn.v_proj.", 2},
      {"attention.o.", "self_attn.o_proj.", 1},
      {"attention.q_norm.", "self_attn.q_norm.", 0},
      {"attention.k_norm.", "self_attn.k_norm.", 0},
      {"mlp.norm.", "post_attention_layernorm.", 0},
      {"mlp.gate.", "mlp.gate_proj.", 1},
      {"mlp.up.", "mlp.up_proj.", 1},
      {"mlp.down.", "mlp.down_proj.", 1},
  };
  for (const Name& known : kNames) {
    if (name.starts_with(known.ours)) {
      const std::string kind = name.substr(known.ours.size());  // weight or bias
      const std::string file_name =
          fmt::format("model.layers.{}.{}{}", parameter.decoder, known.theirs, kind);
      return {whole_tensor(file_name, parameter.tensor, kind == "bias" ? 0 : known.out_dims)};
    }
  }
  SHARDWISE_CHECK(false, "no name in files for " + name);
}

namespace {

Block decoder(const ModelConfig& config, const BatchShape& shape, const LayerTraits& traits) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const TensorIndex y = llama_attention_half(builder, config, traits.sliding_window);
  const TensorIndex normed = builder.rms_norm("mlp.norm", y, config.norm_epsilon);
  const TensorIndex down = gated_mlp(builder, "mlp", normed, config.ffn_width, config);
  builder.boundary_output(builder.add("mlp.add", y, down));
  return std::move(builder).build();
}

void read_llama(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader,
                  config,
                  {.kv_heads_optional = true, .has_attention_bias = true, .has_mlp_bias = true});
  reader.require_absent("sliding_window", "llama has none; mistral does");
  read_sliding_windows(reader, config, 0, 0, LayerTypes::kMustAgree);
}

void read_mistral(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {});
  // The class's default is a window; only null takes it away.
  const std::int64_t absent = reader.contains("sliding_window") ? 0 : 4096;
  read_sliding_windows(
      reader, config, reader.size_or("sliding_window", absent), 0, LayerTypes::kMustAgree);
}

void read_qwen_windows(ConfigReader& reader, ModelConfig& config) {
  const bool uses_window = reader.flag("use_sliding_window", false);
  const std::int64_t absent = reader.contains("sliding_window") ? 0 : 4096;
  const std::int64_t window = reader.size_or("sliding_window", absent);
  const double first = reader.number("max_window_layers", 28, 0, 1e6);
  read_sliding_windows(reader,
                       config,
                       uses_window ? window : 0,
                       static_cast<std::int64_t>(first),
                       LayerTypes::kDecide);
}

void read_qwen2(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {.query_bias = true});
  reader.require_flag("use_mrope", false, "positions of several kinds are not supported");
  read_qwen_windows(reader, config);
}

void read_qwen3(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {.head_dim_required = true, .has_attention_bias = true});
  config.query_norm = true;
  read_qwen_windows(reader, config);
}

}  // namespace

void llama_build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {llama_embedding, decoder, llama_head}, assembler);
}

namespace {

ModelFamily member(std::string_view model_type, void (*read)(ConfigReader&, ModelConfig&)) {
  return {model_type,
          "model.",
          /*has_fused_form=*/false,
          read,
          llama_build,
          llama_file_slices};
}

}  // namespace

ModelFamily llama_family() { return member("llama", read_llama); }
ModelFamily mistral_family() { return member("mistral", read_mistral); }
ModelFamily qwen2_family() { return member("qwen2", read_qwen2); }
ModelFamily qwen3_family() { return member("qwen3", read_qwen3); }

}  // namespace shardwise
