#include "models/experts.h"

#include <fmt/format.h>

#include <utility>

namespace shardwise {

void read_experts_per_token(ConfigReader& reader,
                            ModelConfig& config,
                            const std::string& experts_key) {
  config.experts_per_token = reader.size("num_experts_per_tok", kMostExperts);
  if (config.experts_per_token > config.num_experts) {
    throw reader.root()
        .at("num_experts_per_tok")
        .unexpected(fmt::format("at most {} {}", experts_key, config.num_experts));
  }
}

void refuse_balancing_loss(ConfigReader& reader) {
  const double coefficient = reader.number("router_aux_loss_coef", 0.001, 0, 1e6);
  if (reader.flag("output_router_logits", false) && coefficient > 0) {
    reader.refusals.push_back(
        fmt::format("output_router_logits true (adds {} times the balancing loss)", coefficient));
  }
}

std::vector<FileSlice> expert_slices(const Tensor& tensor,
                                     const std::string& module,
                                     const ExpertNames& names,
                                     CheckpointForm form) {
  const std::vector<std::int64_t>& shape = tensor.shape;
  const bool is_fused = form == CheckpointForm::kFused;
  const bool is_down = tensor.name == "experts.down";
  const bool is_up = tensor.name == "experts.up";
  if (is_fused && is_down) {
    FileSlice slice;
    slice.file_name = module + ".down_proj";
    slice.file_shape = shape;
    slice.leading_size = shape[0];
    return {slice};
  }
  std::vector<FileSlice> slices;
  for (std::int64_t expert = 0; expert < shape[0]; ++expert) {
    FileSlice slice;
    slice.leading_begin = expert;
    slice.leading_size = 1;
    if (is_fused) {  // gate and up of each expert lie one after the other
      slice.file_name = module + ".gate_up_proj";
      slice.file_shape = {shape[0], 2 * shape[1], shape[2]};
      slice.row_offset = (2 * expert + (is_up ? 1 : 0)) * shape[1];
    } else {
      const std::string_view name = is_down ? names.down : is_up ? names.up : names.gate;
      slice.file_name = fmt::format("{}.{}.{}.weight", module, expert, name);
      slice.file_shape = {shape[1], shape[2]};
    }
    slices.push_back(std::move(slice));
  }
  return slices;
}

}  // namespace shardwise
