// Mixtral (Jiang et al., arXiv:2401.04088): llama's attention, a router and gated experts instead
// of the MLP. The weights of the chosen experts are normalised to sum to one.
//
// In files each expert has its own tensors w1 (gate), w3 (up) and w2 (down). transformers 5 holds
// them fused, gate and up of all experts in one tensor [e, 2 f, h], but still writes them apart.
#include <fmt/format.h>

#include "core/errors.h"
#include "models/family_llama.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {.norm_epsilon = 1e-5, .rope_theta = 1e6});
  read_sliding_windows(
      reader, config, reader.size_or("sliding_window", 0), 0, LayerTypes::kMustAgree);
  config.num_experts = reader.size("num_local_experts", kMostExperts);
  config.experts_per_token = reader.size("num_experts_per_tok", kMostExperts);
  if (config.experts_per_token > config.num_experts) {
    throw reader.root()
        .at("num_experts_per_tok")
        .unexpected(fmt::format("at most num_local_experts {}", config.num_experts));
  }
  const double coefficient = reader.number("router_aux_loss_coef", 0.001, 0, 1e6);
  if (reader.flag("output_router_logits", false) && coefficient > 0) {
    reader.refusals.push_back(
        fmt::format("output_router_logits true (adds {} times the balancing loss)", coefficient));
  }
  if (const double noise = reader.number("router_jitter_noise", 0, 0, 1e6); noise > 0) {
    reader.refusals.push_back(fmt::format("router_jitter_noise {}", noise));
  }
}

Block decoder(const ModelConfig& config, const BatchShape& shape, std::int64_t sliding_window) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const double stddev = config.initializer_range;
  const TensorIndex y = llama_attention_half(builder, config, sliding_window);
  const TensorIndex normed = builder.rms_norm("mlp.norm", y, config.norm_epsilon);
  const BlockBuilder::Routing routing = builder.router("router",
                                                       normed,
                                                       config.num_experts,
                                                       config.experts_per_token,
                                                       /*normalize_topk=*/true,
                                                       stddev);
  const TensorIndex mixed = builder.experts("experts",
                                            normed,
                                            routing,
                                            config.num_experts,
                                            config.ffn_width,
                                            config.activation,
                                            stddev,
                                            stddev);
  builder.boundary_output(builder.add("mlp.add", y, mixed));
  return std::move(builder).build();
}

// Expert by expert: tensor [e, rows, columns] and one matrix a file tensor.
std::vector<FileSlice> separate_experts(const NamedParameter& parameter, std::string_view name) {
  const std::vector<std::int64_t>& shape = parameter.tensor.shape;
  std::vector<FileSlice> slices;
  for (std::int64_t expert = 0; expert < shape[0]; ++expert) {
    FileSlice slice;
    slice.file_name = fmt::format(
        "model.layers.{}.block_sparse_moe.experts.{}.{}.weight", parameter.decoder, expert, name);
    slice.file_shape = {shape[1], shape[2]};
    slice.leading_begin = expert;
    slice.leading_size = 1;
    slices.push_back(std::move(slice));
  }
  return slices;
}

// gate (`part` 0) and up (1) of each expert lie one after the other.
std::vector<FileSlice> fused_gate_up(const NamedParameter& parameter, std::int64_t part) {
  const std::vector<std::int64_t>& shape = parameter.tensor.shape;
  std::vector<FileSlice> slices;
  for (std::int64_t expert = 0; expert < shape[0]; ++expert) {
    FileSlice slice;
    slice.file_name = fmt::format("model.layers.{}.mlp.experts.gate_up_proj", parameter.decoder);
    slice.file_shape = {shape[0], 2 * shape[1], shape[2]};
    slice.leading_begin = expert;
    slice.leading_size = 1;
    slice.row_offset = (2 * expert + part) * shape[1];
    slices.push_back(std::move(slice));
  }
  return slices;
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm form) {
  const std::string& name = parameter.tensor.name;
  const bool is_fused = form == CheckpointForm::kFused;
  if (name == "router.weight") {
    const char* module = is_fused ? "mlp" : "block_sparse_moe";
    return {whole_tensor(fmt::format("model.layers.{}.{}.gate.weight", parameter.decoder, module),
                         parameter.tensor,
                         1)};
  }
  if (name == "experts.gate") {
    return is_fused ? fused_gate_up(parameter, 0) : separate_experts(parameter, "w1");
  }
  if (name == "experts.up") {
    return is_fused ? fused_gate_up(parameter, 1) : separate_experts(parameter, "w3");
  }
  if (name == "experts.down") {
    if (!is_fused) {
      return separate_experts(parameter, "w2");
    }
    FileSlice slice;
    slice.file_name = fmt::format("model.layers.{}.mlp.experts.down_proj", parameter.decoder);
    slice.file_shape = parameter.tensor.shape;
    slice.leading_size = parameter.tensor.shape[0];
    return {slice};
  }
  return llama_file_slices(parameter, form);
}

}  // namespace

ModelFamily mixtral_family() {
  return {"mixtral",
          "model.",
          /*has_fused_form=*/true,
          read,
          llama_embedding,
          decoder,
          llama_head,
          file_slices};
}

}  // namespace shardwise
