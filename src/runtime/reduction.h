// Sums of equal blocks from several ranks, in rank order: the arithmetic of every reduction.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/communicator.h"

namespace shardwise {

// out[i] = ((blocks[0][i] + blocks[1][i]) + blocks[2][i]) + ..., each block `count` elements.
// Adds in fp32 for kFloat32 and kBFloat16 (rounded once, to nearest even, at the end), in double
// for kFloat64, in int64 for kInt64. kByte cannot be added. `out` may be one of the blocks.
void sum_blocks(std::span<const void* const> blocks, void* out, std::int64_t count, WireType type);

// Nearest bf16 of a float, ties to even; NaN stays NaN.
std::uint16_t to_bfloat16(float value);
float from_bfloat16(std::uint16_t bits);

}  // namespace shardwise
