// A program as text, one line an instruction, for people and for diffs.
#pragma once

#include <string>

#include "lower/program.h"

namespace shardwise {

// "rank 1 (stage 0, mesh data 2 x free 2)", then parameters, then instructions such as
//    17  forward mb 0 layer.3 attention.q  %12 -> %13  frees %12
// Buffers are %id; a buffer's shape stands where it is first written.
std::string dump(const Program& program, const Graph& graph);

// One instruction in a few words, without its number: "wait for %7 from rank 2 (tag 5)".
std::string describe(const Instruction& instruction, const Program& program, const Graph& graph);

// The same without a graph: layers and ops by number.
std::string describe(const Instruction& instruction, const Program& program);

}  // namespace shardwise
