// Cosines and sines of rotary position embeddings (Su et al., RoFormer, section 3.2.2), as
// transformers computes them: fp32 frequencies and angles, then the compute type.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "graph/op.h"

namespace shardwise {

// [positions, rotary_dims / 2] each.
struct RotaryTable {
  at::Tensor cos;
  at::Tensor sin;
};

// Turn of dimension pair i for one position: theta^(-2 i / rotary_dims), changed by the type:
//   "", "default"  as it is
//   "linear"       divided by rope_parameters {factor}
//   "llama3"       long wavelengths divided by factor, short ones kept, between them a blend;
//                  rope_parameters {factor, low, high, original positions} (Llama 3.1)
// Throws InputError for other types.
std::vector<double> rotary_frequencies(const OpAttributes& attributes);

// The table of these positions, kept for later calls with equal arguments. Thread-safe.
RotaryTable rotary_table(const OpAttributes& attributes,
                         const std::vector<std::int64_t>& positions,
                         const at::TensorOptions& options);

}  // namespace shardwise
