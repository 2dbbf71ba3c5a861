// What this process has sent through MPI so far, seen through MPI's profiling interface.
#pragma once

#include <array>
#include <cstdint>

namespace shardwise::testing {

enum ObservedKind {
  kSends,
  kControl,
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kAllToAll,
  kAllToAllSent,  // of exchanges of unequal blocks what left the rank; routing decides how much
  kObservedKinds,
};

// Payload bytes by kind: of kAllGather to kAllToAll a member of a group of n sends (n - 1) / n over
// the wire.
std::array<std::int64_t, kObservedKinds> observed_payload();

}  // namespace shardwise::testing
