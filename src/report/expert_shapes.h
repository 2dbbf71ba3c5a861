// Shapes of published mixture-of-experts models by name: tables of throughput leave them out.
#pragma once

#include <optional>
#include <string>

#include "cost/decoder_shape.h"

namespace shardwise {

// The shape, found by what the name contains, punctuation and letter case ignored: "Qwen3_30B_a3B
// (tokendrop)" is Qwen3-30B-A3B. Nothing for names that are not in the table.
std::optional<DecoderShape> expert_shape(const std::string& model);

}  // namespace shardwise
