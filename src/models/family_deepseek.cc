// DeepSeek's models with experts (arXiv:2401.06066, 2405.04434, 2412.19437): the first layers have
// a dense MLP, the others fine-grained experts beside shared ones. deepseek has llama's attention;
// deepseek_v2 and deepseek_v3 have multi-head latent attention: keys and values are spread out from
// a narrow latent, beside one rotary key for all heads. deepseek_v3 chooses experts by sigmoid
// scores plus a bias that balances them. The module for multi-token prediction is left out.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/text.h"
#include "models/experts.h"
#include "models/family_llama.h"
#include "models/rope.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read_experts(ConfigReader& reader, ModelConfig& config) {
  config.num_experts = reader.size("n_routed_experts", kMostExperts);
  config.expert_width = reader.size("moe_intermediate_size");
  config.shared_width = reader.size("n_shared_experts", kMostExperts) * config.expert_width;
  read_experts_per_token(reader, config, "n_routed_experts");
  const auto first =
      static_cast<std::int64_t>(reader.number("first_k_dense_replace", 0, 0, kMostLayers));
  const std::int64_t step = reader.size_or("moe_layer_freq", 1);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    config.sparse_layers.push_back(layer >= first && layer % step == 0 ? 1 : 0);
  }
  if (reader.number("routed_scaling_factor", 1, 0, 1e6) != 1) {
    reader.refusals.emplace_back("routed_scaling_factor other than 1");
  }
  reader.ignore({"ep_size", "aux_loss_alpha", "seq_aux"});
  reader.accept("auto_map");  // the code that it names is this family's own
  refuse_balancing_loss(reader);
}

// How experts are chosen changes no size: planned, not trained.
void read_choice(ConfigReader& reader,
                 const std::string& scoring,
                 const std::vector<std::string>& methods) {
  const std::string scores = reader.text("scoring_func", scoring);
  if (scores != scoring) {
    throw reader.root().at("scoring_func").unexpected("\"" + scoring + "\"");
  }
  const std::string method = reader.text("topk_method", methods.front());
  if (std::find(methods.begin(), methods.end(), method) == methods.end()) {
    throw reader.root().at("topk_method").unexpected("\"" + join(methods, "\" or \"") + "\"");
  }
  if (method != "greedy" || scoring != "softmax") {
    reader.refusals.push_back(fmt::format("experts chosen by {} scores, {}", scores, method));
  }
  reader.ignore({"n_group", "topk_group"});
}

void read_deepseek(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {.kv_heads_optional = true, .has_attention_bias = true});
  read_sliding_windows(reader, config, 0, 0, LayerTypes::kMustAgree);
  read_experts(reader, config);
  config.normalize_topk = reader.flag("norm_topk_prob", false);
  read_choice(reader, "softmax", {"greedy"});
}

void expect_size(ConfigReader& reader, const std::string& key, std::int64_t size) {
  if (const auto value = reader.find(key); value && value->as_int64() != size) {
    throw value->unexpected(fmt::format("{}, as the other sizes say", size));
  }
}

// Everything but experts.
void read_latent_keys(ConfigReader& reader, ModelConfig& config) {
  config.hidden_size = reader.size("hidden_size");
  config.num_layers = reader.size("num_hidden_layers", kMostLayers);
  config.ffn_width = reader.size("intermediate_size");
  config.vocabulary = reader.size("vocab_size", kLargestTable);
  config.positions = reader.size_or("max_position_embeddings", 4096);
  config.num_heads = reader.size("num_attention_heads");
  config.num_kv_heads = config.num_heads;
  expect_size(reader, "num_key_value_heads", config.num_heads);
  LatentAttention latent;
  latent.query_rank = reader.size_or("q_lora_rank", 0);
  latent.rank = reader.size("kv_lora_rank");
  latent.plain_dim = reader.size("qk_nope_head_dim");
  latent.rotary_dim = reader.size("qk_rope_head_dim");
  latent.value_dim = reader.size("v_head_dim");
  config.head_dim = latent.rotary_dim;
  expect_size(reader, "head_dim", latent.rotary_dim);
  expect_size(reader, "qk_head_dim", latent.plain_dim + latent.rotary_dim);
  if (config.num_heads * (latent.plain_dim + latent.rotary_dim + latent.value_dim) > kLargestSize) {
    throw reader.root().at("num_attention_heads").unexpected("fewer or smaller heads");
  }
  config.attention_scale = 1 / std::sqrt(static_cast<double>(latent.plain_dim + latent.rotary_dim));
  config.latent = latent;
  config.tied_embeddings = reader.flag("tie_word_embeddings", false);
  config.norm_epsilon = reader.number("rms_norm_eps", 1e-6, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 100);
  config.activation = read_activation(reader, "hidden_act", "silu");
  reader.require_flag("attention_bias", false, "biases of latent projections are not supported");
  reader.require_flag("mlp_bias", false, "biases of the experts are not supported");
  reader.flag("rope_interleave", true);  // the order of rotated pairs
  config.rope = read_rope(reader, config, 10000);
  reader.dropout("attention_dropout", 0);
  read_sliding_windows(reader, config, 0, 0, LayerTypes::kMustAgree);
  reader.refusals.emplace_back("multi-head latent attention");
}

void read_deepseek_v2(ConfigReader& reader, ModelConfig& config) {
  read_latent_keys(reader, config);
  read_experts(reader, config);
  config.normalize_topk = reader.flag("norm_topk_prob", false);
  read_choice(reader, "softmax", {"greedy", "group_limited_greedy"});
}

void read_deepseek_v3(ConfigReader& reader, ModelConfig& config) {
  read_latent_keys(reader, config);
  read_experts(reader, config);
  config.router_bias = true;
  config.normalize_topk = reader.flag("norm_topk_prob", true);
  read_choice(reader, "sigmoid", {"noaux_tc"});
  if (reader.find("quantization_config")) {
    reader.accept("quantization_config");  // how weights are stored; sizes are the same
    reader.refusals.emplace_back("quantization_config (weights in 8 bits)");
  }
  std::int64_t modules = 0;
  for (const char* key : {"num_nextn_predict_layers", "num_mtp_layers"}) {
    modules = std::max(modules, static_cast<std::int64_t>(reader.number(key, 0, 0, kMostLayers)));
  }
  if (modules > 0) {
    reader.warnings.push_back(fmt::format(
        "num_nextn_predict_layers {}: multi-token prediction is left out of the model", modules));
  }
}

// norm(x) -> latent attention [b, s, h].
TensorIndex latent_attention(BlockBuilder& builder, TensorIndex x, const ModelConfig& config) {
  const LatentAttention& latent = *config.latent;
  const double stddev = config.initializer_range;
  const LoopAxis h{"h", config.hidden_size};
  const LoopAxis n{"n", config.num_heads};
  const LoopAxis d{"d", latent.plain_dim + latent.rotary_dim, AxisSharding::kNever};
  const LoopAxis u{"u", latent.query_rank};
  const LoopAxis c{"c", latent.rank};
  const LoopAxis p{"p", latent.rotary_dim, AxisSharding::kNever};
  const LoopAxis plain{"d", latent.plain_dim, AxisSharding::kNever};
  const LoopAxis w{"w", latent.value_dim, AxisSharding::kNever};
  TensorIndex q = x;
  if (latent.query_rank > 0) {
    q = builder.linear("attention.q_down", x, {h}, {u}, false, stddev);
    q = builder.rms_norm("attention.q_norm", q, config.norm_epsilon);
    q = builder.linear("attention.q", q, {u}, {n, d}, false, stddev);
  } else {
    q = builder.linear("attention.q", x, {h}, {n, d}, false, stddev);
  }
  OpAttributes rotary;
  rotary.rope_theta = config.rope->theta;
  rotary.rotary_dims = latent.rotary_dim;
  rotary.rope_type = config.rope->type;
  rotary.rope_parameters = config.rope->parameters;
  q = builder.rotary("attention.q_rotary", q, rotary);
  TensorIndex narrow = builder.linear("attention.kv_down", x, {h}, {c}, false, stddev);
  narrow = builder.rms_norm("attention.kv_norm", narrow, config.norm_epsilon);
  TensorIndex k_rotary = builder.linear("attention.k_position", x, {h}, {p}, false, stddev);
  k_rotary = builder.rotary("attention.k_rotary", k_rotary, rotary);
  const TensorIndex k = builder.linear("attention.k", narrow, {c}, {n, plain}, false, stddev);
  const TensorIndex v = builder.linear("attention.v", narrow, {c}, {n, w}, false, stddev);
  const TensorIndex mixed = builder.latent_attention(
      "attention.core", q, k, k_rotary, v, {.scale = config.attention_scale});
  return builder.linear("attention.o", mixed, {n, w}, {h}, false, stddev);
}

Block latent_decoder(const ModelConfig& config,
                     const BatchShape& shape,
                     const LayerTraits& traits) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex attention_in = builder.rms_norm("attention.norm", x, config.norm_epsilon);
  const TensorIndex y =
      builder.add("attention.add", x, latent_attention(builder, attention_in, config));
  const TensorIndex normed = builder.rms_norm("mlp.norm", y, config.norm_epsilon);
  const TensorIndex mixed = traits.is_sparse
                                ? sparse_mlp(builder, normed, config)
                                : gated_mlp(builder, "mlp", normed, config.ffn_width, config);
  builder.boundary_output(builder.add("mlp.add", y, mixed));
  return std::move(builder).build();
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config,
                shape,
                {llama_embedding, config.latent ? latent_decoder : sparse_decoder, llama_head},
                assembler);
}

// Rows [begin, begin + rows) of a matrix of the file, for the whole parameter.
FileSlice rows_of(const std::string& file_name,
                  const Tensor& tensor,
                  std::int64_t begin,
                  std::int64_t all_rows) {
  FileSlice slice;
  slice.file_name = file_name;
  slice.file_shape = {all_rows, tensor.shape.back()};
  slice.leading_size = tensor.shape.front();
  slice.row_offset = begin;
  return slice;
}

// Each head's rows of kv_b_proj are those of its key, then those of its value.
std::vector<FileSlice> head_slices(const std::string& file_name, const NamedParameter& parameter) {
  const LatentAttention& latent = *parameter.config.latent;
  const bool is_value = parameter.tensor.name == "attention.v.weight";
  const std::int64_t rows = latent.plain_dim + latent.value_dim;
  const std::int64_t heads = parameter.config.num_heads;
  std::vector<FileSlice> slices;
  for (std::int64_t head = 0; head < heads; ++head) {
    const std::int64_t begin = head * rows + (is_value ? latent.plain_dim : 0);
    FileSlice slice = rows_of(file_name, parameter.tensor, begin, heads * rows);
    slice.leading_begin = head;
    slice.leading_size = 1;
    slices.push_back(std::move(slice));
  }
  return slices;
}

std::vector<FileSlice> latent_slices(const NamedParameter& parameter, CheckpointForm form) {
  const LatentAttention& latent = *parameter.config.latent;
  const Tensor& tensor = parameter.tensor;
  const std::string& name = tensor.name;
  const std::string module = fmt::format("model.layers.{}.self_attn.", parameter.decoder);
  const std::int64_t down_rows = latent.rank + latent.rotary_dim;
  if (name == "attention.q.weight") {
    return {whole_tensor(
        module + (latent.query_rank > 0 ? "q_b_proj.weight" : "q_proj.weight"), tensor, 2)};
  }
  if (name == "attention.q_down.weight") {
    return {whole_tensor(module + "q_a_proj.weight", tensor, 1)};
  }
  if (name == "attention.q_norm.weight") {
    return {whole_tensor(module + "q_a_layernorm.weight", tensor, 0)};
  }
  if (name == "attention.kv_norm.weight") {
    return {whole_tensor(module + "kv_a_layernorm.weight", tensor, 0)};
  }
  if (name == "attention.kv_down.weight") {
    return {rows_of(module + "kv_a_proj_with_mqa.weight", tensor, 0, down_rows)};
  }
  if (name == "attention.k_position.weight") {
    return {rows_of(module + "kv_a_proj_with_mqa.weight", tensor, latent.rank, down_rows)};
  }
  if (name == "attention.k.weight" || name == "attention.v.weight") {
    return head_slices(module + "kv_b_proj.weight", parameter);
  }
  return llama_file_slices(parameter, form);
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm form) {
  const std::string& name = parameter.tensor.name;
  const std::string mlp = fmt::format("model.layers.{}.mlp", parameter.decoder);
  if (name == "router.weight") {
    return {whole_tensor(mlp + ".gate.weight", parameter.tensor, 1)};
  }
  if (name == "router.bias") {
    return {whole_tensor(mlp + ".gate.e_score_correction_bias", parameter.tensor, 0)};
  }
  if (name.starts_with("experts.")) {
    return expert_slices(
        parameter.tensor, mlp + ".experts", {"gate_proj", "up_proj", "down_proj"}, form);
  }
  for (const char* part : {"gate", "up", "down"}) {
    if (name == fmt::format("shared.{}.weight", part)) {
      return {whole_tensor(
          fmt::format("{}.shared_experts.{}_proj.weight", mlp, part), parameter.tensor, 1)};
    }
  }
  return parameter.config.latent ? latent_slices(parameter, form)
                                 : llama_file_slices(parameter, form);
}

}  // namespace

ModelFamily deepseek_family() {
  return {"deepseek", "model.", /*has_fused_form=*/true, read_deepseek, build, file_slices};
}
ModelFamily deepseek_v2_family() {
  return {"deepseek_v2", "model.", /*has_fused_form=*/true, read_deepseek_v2, build, file_slices};
}
ModelFamily deepseek_v3_family() {
  return {"deepseek_v3", "model.", /*has_fused_form=*/true, read_deepseek_v3, build, file_slices};
}

}  // namespace shardwise
