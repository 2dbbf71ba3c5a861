// The forward part of a program: what a rank does to evaluate the loss without learning.
#pragma once

#include "lower/program.h"

namespace shardwise {

// Keeps loads, forward kernels, conversions, messages and parameter gathers of forward passes, and
// the norm instruction (for its losses); buffers are freed where forward uses them last.
Program forward_program(const Program& program);

}  // namespace shardwise
