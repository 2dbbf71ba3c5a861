// qwen2_moe and qwen3_moe: llama's layers with experts, in all layers or in some. qwen2_moe has a
// shared expert beside them, weighted by a sigmoid gate; qwen3_moe has q/k norms.
#include <fmt/format.h>

#include "models/experts.h"
#include "models/family_llama.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

// Layers with experts: every `decoder_sparse_step`-th that `mlp_only_layers` does not list.
void read_sparse_layers(ConfigReader& reader, ModelConfig& config) {
  const std::int64_t step = reader.size_or("decoder_sparse_step", 1);
  for (std::int64_t layer = 1; layer <= config.num_layers; ++layer) {
    config.sparse_layers.push_back(layer % step == 0 ? 1 : 0);
  }
  if (const auto list = reader.find("mlp_only_layers")) {
    for (const JsonValue& item : list->items()) {
      config.sparse_layers[static_cast<std::size_t>(item.as_int64(0, config.num_layers - 1))] = 0;
    }
  }
}

void read_experts(ConfigReader& reader, ModelConfig& config) {
  // transformers 5 writes qwen3_moe's under the second name.
  const bool is_local = !reader.contains("num_experts") && reader.contains("num_local_experts");
  const std::string experts_key = is_local ? "num_local_experts" : "num_experts";
  config.num_experts = reader.size(experts_key, kMostExperts);
  config.expert_width = reader.size("moe_intermediate_size");
  config.normalize_topk = reader.flag("norm_topk_prob", false);
  read_experts_per_token(reader, config, experts_key);
  read_sparse_layers(reader, config);
  refuse_balancing_loss(reader);
}

std::int64_t read_window(ConfigReader& reader) {
  // transformers writes 0 for none.
  const double absent = reader.contains("sliding_window") ? 0 : 4096;
  const auto window = static_cast<std::int64_t>(
      reader.number("sliding_window", absent, 0, static_cast<double>(kLargestSize)));
  return reader.flag("use_sliding_window", false) ? window : 0;
}

void read_qwen2_moe(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {});
  config.query_bias = reader.flag("qkv_bias", true);
  read_experts(reader, config);
  config.shared_width = reader.size("shared_expert_intermediate_size");
  config.shared_gate = true;
  reader.refusals.emplace_back("the sigmoid gate of the shared expert");
  const std::int64_t window = read_window(reader);
  const auto first_full = static_cast<std::int64_t>(reader.number("max_window_layers", 28, 0, 1e6));
  read_sliding_windows(reader, config, window, config.num_layers, LayerTypes::kDecide);
  if (!reader.find("layer_types")) {  // every other layer of the first ones
    for (std::int64_t layer = 0; layer < config.num_layers && layer < first_full; layer += 2) {
      config.sliding_windows[static_cast<std::size_t>(layer)] = window;
    }
  }
}

void read_qwen3_moe(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {.head_dim_required = true, .has_attention_bias = true});
  config.query_norm = true;
  read_experts(reader, config);
  reader.ignore({"max_window_layers"});  // the class reads no such key
  read_sliding_windows(reader, config, read_window(reader), 0, LayerTypes::kMustAgree);
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {llama_embedding, sparse_decoder, llama_head}, assembler);
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm form) {
  const std::string& name = parameter.tensor.name;
  const std::string mlp = fmt::format("model.layers.{}.mlp", parameter.decoder);
  if (name == "router.weight") {
    return {whole_tensor(mlp + ".gate.weight", parameter.tensor, 1)};
  }
  if (name.starts_with("experts.")) {
    return expert_slices(
        parameter.tensor, mlp + ".experts", {"gate_proj", "up_proj", "down_proj"}, form);
  }
  if (name == "shared.router.weight") {
    return {whole_tensor(mlp + ".shared_expert_gate.weight", parameter.tensor, 1)};
  }
  for (const char* part : {"gate", "up", "down"}) {
    if (name == fmt::format("shared.{}.weight", part)) {
      return {whole_tensor(
          fmt::format("{}.shared_expert.{}_proj.weight", mlp, part), parameter.tensor, 1)};
    }
  }
  return llama_file_slices(parameter, form);
}

}  // namespace

ModelFamily qwen2_moe_family() {
  return {"qwen2_moe", "model.", /*has_fused_form=*/true, read_qwen2_moe, build, file_slices};
}

ModelFamily qwen3_moe_family() {
  return {"qwen3_moe", "model.", /*has_fused_form=*/true, read_qwen3_moe, build, file_slices};
}

}  // namespace shardwise
