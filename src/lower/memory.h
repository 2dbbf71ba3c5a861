// Memory that a program needs on its device, counted by walking through it: the oracle of the cost
// model's memory account.
#pragma once

#include "lower/program.h"

namespace shardwise {

struct ProgramMemory {
  Bytes weights{0};    // compute type; the rank's share of fully sharded ones
  Bytes gradients{0};  // fp32 accumulators, or the rank's share
  Bytes optimizer{0};  // two fp32 moments, and fp32 weights with bf16
  // Most bytes alive at once of buffers, workspaces, gathered parameters, and whole gradients of
  // ops that share theirs out (from the op's first backward step to the start of its reduction).
  // Losses, one number a micro-batch, are left out.
  Bytes peak_dynamic{0};

  Bytes total() const { return weights + gradients + optimizer + peak_dynamic; }
};

ProgramMemory memory_of(const Program& program);

}  // namespace shardwise
