// Payload bytes that a program hands to collectives and sends, by the convention of graph/layout.h.
#pragma once

#include <array>
#include <cstdint>

#include "lower/program.h"

namespace shardwise {

struct ProgramTraffic {
  std::array<std::int64_t, 5> by_collective{};  // by CollectiveKind; slices are free
  std::int64_t sends = 0;                       // stage boundaries and tied parameters
  // Part of by_collective that depends on the routing of tokens: the figure of an even routing.
  std::int64_t routed = 0;

  bool operator==(const ProgramTraffic&) const = default;
};

// One step. Counts conversions, collectives inside kernels, reductions, gathers and messages;
// control messages (losses, norm, expert counts) and copies inside a rank are not counted.
ProgramTraffic traffic_of(const Program& program);

}  // namespace shardwise
