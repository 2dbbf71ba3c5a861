#include "models/transformer_parts.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <utility>

#include "core/errors.h"

namespace shardwise {

namespace {

// transformers' ACT2FN names, and ours; "" where the runtime has none.
constexpr std::array<std::pair<std::string_view, std::string_view>, 24> kActivations = {{
    {"gelu", "gelu"},
    {"gelu_python", "gelu"},
    {"gelu_new", "gelu_tanh"},
    {"gelu_fast", "gelu_tanh"},
    {"gelu_accurate", "gelu_tanh"},
    {"gelu_pytorch_tanh", "gelu_tanh"},
    {"gelu_python_tanh", "gelu_tanh"},
    {"relu", "relu"},
    {"silu", "silu"},
    {"swish", "silu"},
    {"gelu_10", ""},
    {"hardswish", ""},
    {"laplace", ""},
    {"leaky_relu", ""},
    {"linear", ""},
    {"mish", ""},
    {"quick_gelu", ""},
    {"relu2", ""},
    {"relu6", ""},
    {"sigmoid", ""},
    {"sqrtsoftplus", ""},
    {"tanh", ""},
    {"prelu", ""},
    {"xielu", ""},
}};

constexpr std::string_view kFullAttention = "full_attention";
constexpr std::string_view kSlidingAttention = "sliding_attention";

}  // namespace

std::string read_activation(ConfigReader& reader,
                            const std::string& key,
                            const std::string& absent) {
  std::string name = reader.text(key, absent);
  const std::optional<JsonValue> value = reader.find(key);
  for (const auto& [theirs, ours] : kActivations) {
    if (theirs != name) {
      continue;
    }
    // These two have parameters of their own, which the graph would lack.
    if (name == "prelu" || name == "xielu") {
      throw value->unexpected("an activation without parameters", "");
    }
    if (ours.empty()) {
      reader.refusals.push_back(fmt::format("{} \"{}\"", key, name));
      return name;
    }
    return std::string(ours);
  }
  throw value->unexpected("an activation of transformers such as \"silu\" or \"gelu_new\"", "");
}

void read_sliding_windows(ConfigReader& reader,
                          ModelConfig& config,
                          std::int64_t window,
                          std::int64_t first,
                          LayerTypes layer_types) {
  config.sliding_windows.clear();
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    config.sliding_windows.push_back(layer >= first ? window : 0);
  }
  const std::optional<JsonValue> list = reader.find("layer_types");
  if (!list) {
    return;
  }
  if (list->size() != config.num_layers) {
    throw list->unexpected(fmt::format("one type for each of {} layers", config.num_layers));
  }
  std::size_t layer = 0;
  for (const JsonValue& item : list->items()) {
    const std::string& type = item.as_string();
    const bool is_sliding = type == kSlidingAttention;
    if (!is_sliding && type != kFullAttention) {
      throw item.unexpected("\"full_attention\" or \"sliding_attention\"");
    }
    if (is_sliding && window == 0) {
      throw item.unexpected("\"full_attention\", as there is no sliding window",
                            "give sliding_window (and use_sliding_window)");
    }
    const bool agrees = is_sliding == (config.sliding_windows[layer] > 0);
    if (layer_types == LayerTypes::kMustAgree && !agrees) {
      throw item.unexpected(fmt::format("\"{}\", as all layers of {} are alike",
                                        is_sliding ? kFullAttention : kSlidingAttention,
                                        config.model_type));
    }
    config.sliding_windows[layer] = is_sliding ? window : 0;
    ++layer;
  }
}

void check_common_keys(ConfigReader& reader) {
  reader.require_flag("is_encoder_decoder", false, "only decoders can be read");
  reader.require_flag("add_cross_attention", false, "cross-attention is not supported");
  reader.require_absent("pruned_heads", "pruned attention heads are not supported");
  reader.require_absent("quantization_config",
                        "quantised models cannot be read; take the original");
  reader.require_absent("auto_map", "the model brings its own code; take a published family");
  reader.require_absent("text_config", "multimodal models are not supported");
}

TensorIndex self_attention(BlockBuilder& builder,
                           TensorIndex x,
                           const ModelConfig& config,
                           std::int64_t sliding_window,
                           double output_stddev) {
  const LoopAxis h{"h", config.hidden_size};
  const LoopAxis n{"n", config.num_kv_heads};
  const LoopAxis r{"r", config.num_heads / config.num_kv_heads};
  const LoopAxis d{"d", config.head_dim, AxisSharding::kNever};
  const double stddev = config.initializer_range;
  TensorIndex q = builder.linear("attention.q", x, {h}, {n, r, d}, config.query_bias, stddev);
  TensorIndex k = builder.linear("attention.k", x, {h}, {n, d}, config.query_bias, stddev);
  const TensorIndex v = builder.linear("attention.v", x, {h}, {n, d}, config.query_bias, stddev);
  if (config.query_norm) {
    q = builder.rms_norm("attention.q_norm", q, config.norm_epsilon);
    k = builder.rms_norm("attention.k_norm", k, config.norm_epsilon);
  }
  if (config.rope) {
    OpAttributes attributes;
    attributes.rope_theta = config.rope->theta;
    attributes.rotary_dims = config.rotary_dims > 0 ? config.rotary_dims : config.head_dim;
    attributes.rope_type = config.rope->type;
    attributes.rope_parameters = config.rope->parameters;
    q = builder.rotary("attention.q_rotary", q, attributes);
    k = builder.rotary("attention.k_rotary", k, attributes);
  }
  const TensorIndex mixed = builder.attention("attention.core",
                                              q,
                                              k,
                                              v,
                                              {.causal = config.causal,
                                               .scale = config.attention_scale,
                                               .sliding_window = sliding_window,
                                               .softcap = config.attention_softcap});
  return builder.linear("attention.o", mixed, {n, r, d}, {h}, config.output_bias, output_stddev);
}

void language_model_head(BlockBuilder& builder, TensorIndex x, const ModelConfig& config) {
  TensorIndex logits = builder.linear("linear",
                                      x,
                                      {{"h", config.hidden_size}},
                                      {{"v", config.vocabulary, AxisSharding::kPadded}},
                                      /*bias=*/false,
                                      config.initializer_range);
  if (config.final_softcap > 0) {
    logits = builder.activation("softcap", logits, "softcap");
  }
  builder.cross_entropy("loss", logits, builder.targets());
}

TensorIndex plain_mlp(BlockBuilder& builder,
                      const std::string& name,
                      TensorIndex x,
                      const LoopAxis& hidden,
                      std::int64_t width,
                      const ModelConfig& config) {
  const LoopAxis f{"f", width};
  const double stddev = config.initializer_range;
  const TensorIndex up = builder.linear(name + ".up", x, {hidden}, {f}, config.mlp_bias, stddev);
  const TensorIndex active = builder.activation(name + ".activation", up, config.activation);
  return builder.linear(name + ".down", active, {f}, {hidden}, config.mlp_bias, stddev);
}

std::int64_t read_labels(ConfigReader& reader) {
  if (const auto names = reader.find("id2label")) {
    if (names->size() < 1) {
      throw names->unexpected("one entry for each label");
    }
    return static_cast<std::int64_t>(names->size());
  }
  return reader.size("num_labels");
}

void classifier_head(BlockBuilder& builder,
                     TensorIndex pooled,
                     std::int64_t width,
                     const ModelConfig& config) {
  const TensorIndex logits = builder.linear("classifier",
                                            pooled,
                                            {{"h", width}},
                                            {{"v", config.image->labels, AxisSharding::kPadded}},
                                            /*bias=*/true,
                                            config.initializer_range);
  builder.cross_entropy("loss", logits, builder.labels());
}

std::optional<FileSlice> find_file_slice(std::span<const FileName> names,
                                         const Tensor& tensor,
                                         const std::string& prefix) {
  const std::size_t dot = tensor.name.rfind('.');
  const std::string_view ours = std::string_view(tensor.name).substr(0, dot);
  const std::string kind = tensor.name.substr(dot);  // ".weight" or ".bias"
  for (const FileName& known : names) {
    if (known.ours == ours) {
      const std::string name = fmt::format("{}{}{}", prefix, known.theirs, kind);
      return whole_tensor(name, tensor, kind == ".bias" ? 0 : known.rows);
    }
  }
  return std::nullopt;
}

FileSlice whole_tensor(const std::string& file_name, const Tensor& tensor, int matrix_rows) {
  FileSlice slice;
  slice.file_name = file_name;
  slice.leading_size = tensor.shape.front();
  std::int64_t rows = 1;
  for (int dim = 0; dim < matrix_rows; ++dim) {
    rows *= tensor.shape[static_cast<std::size_t>(dim)];
  }
  const std::int64_t elements = element_count(tensor.shape);
  slice.file_shape = matrix_rows == 0 ? std::vector<std::int64_t>{elements}
                                      : std::vector<std::int64_t>{rows, elements / rows};
  return slice;
}

}  // namespace shardwise
