// What the families whose MLPs are experts have in common: keys and names in files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/config_reader.h"
#include "models/model_family.h"

namespace shardwise {

// Sets experts_per_token from `num_experts_per_tok`, at most num_experts (key `experts_key`).
void read_experts_per_token(ConfigReader& reader,
                            ModelConfig& config,
                            const std::string& experts_key);

// Training refuses a loss that balances the experts.
void refuse_balancing_loss(ConfigReader& reader);

// Names of an expert's matrices in files: "gate_proj", ...
struct ExpertNames {
  std::string_view gate, up, down;
};

// Places of the parameter "experts.gate", ".up" or ".down" ([e, rows, columns]). Published: one
// matrix an expert, `module` + ".3.gate_proj.weight". Fused, as transformers 5 holds them: gate and
// up of all experts in `module` + ".gate_up_proj" [e, 2 f, h], down in ".down_proj" [e, h, f].
std::vector<FileSlice> expert_slices(const Tensor& tensor,
                                     const std::string& module,
                                     const ExpertNames& names,
                                     CheckpointForm form);

}  // namespace shardwise
