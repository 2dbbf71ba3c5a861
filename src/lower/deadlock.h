// Whether all ranks' programs end when every message is a rendezvous: a replay without time.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "lower/program.h"

namespace shardwise {

// Runs all programs against each other. A wait ends when both sides have posted the message; a
// collective, also one inside a kernel, is a barrier of its group; reductions run in program order
// on a communication thread of their own; the gradient norm is a barrier of all ranks. Buffers
// impose nothing more: each is written and freed in program order on one rank.
//
// Nothing if all end. Else a description: the ranks that wait for each other in a circle (or for a
// rank that has ended), and in which instruction each of them stands. Every order of execution
// gives the same answer, so one replay proves it.
std::optional<std::string> find_deadlock(std::span<const Program> programs);

}  // namespace shardwise
