// Mixtral (Jiang et al., arXiv:2401.04088): llama's attention, a router and gated experts instead
// of the MLP. The weights of the chosen experts are normalised to sum to one.
//
// In files each expert has its own tensors w1 (gate), w3 (up) and w2 (down). transformers 5 holds
// them fused, gate and up of all experts in one tensor [e, 2 f, h], but still writes them apart.
#include <fmt/format.h>

#include "core/errors.h"
#include "models/experts.h"
#include "models/family_llama.h"
#include "models/graph_assembler.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {.norm_epsilon = 1e-5, .rope_theta = 1e6});
  read_sliding_windows(
      reader, config, reader.size_or("sliding_window", 0), 0, LayerTypes::kMustAgree);
  config.num_experts = reader.size("num_local_experts", kMostExperts);
  config.expert_width = config.ffn_width;
  config.sparse_layers.assign(static_cast<std::size_t>(config.num_layers), 1);
  read_experts_per_token(reader, config, "num_local_experts");
  refuse_balancing_loss(reader);
  if (const double noise = reader.number("router_jitter_noise", 0, 0, 1e6); noise > 0) {
    reader.refusals.push_back(fmt::format("router_jitter_noise {}", noise));
  }
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
  if (name.starts_with("experts.")) {
    const std::string mlp =
        fmt::format("model.layers.{}.{}", parameter.decoder, is_fused ? "mlp" : "block_sparse_moe");
    return expert_slices(parameter.tensor, mlp + ".experts", {"w1", "w3", "w2"}, form);
  }
  return llama_file_slices(parameter, form);
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {llama_embedding, sparse_decoder, llama_head}, assembler);
}

}  // namespace

ModelFamily mixtral_family() {
  return {"mixtral",
          "model.",
          /*has_fused_form=*/true,
          read,
          build,
          file_slices};
}

}  // namespace shardwise
