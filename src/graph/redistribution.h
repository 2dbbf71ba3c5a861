// Who sends what when a tensor moves from one set of devices to another: stage boundaries (both
// directions), tied parameters, checkpoints resumed under another plan. The one place that decides
// it, so that cost, lower and runtime agree on every byte.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/layout.h"

namespace shardwise {

// A whole tensor laid out over devices: devices[i] is the one with index i in `mesh`.
struct TensorPlacement {
  Layout layout{};  // never partial
  Mesh mesh;
  std::vector<int> devices;  // global ranks, mesh.devices() of them, each once
};

// One part of the tensor that `to_device` gets from `from_device`; equal devices: a local copy.
struct RedistributionMessage {
  int from_device = 0;
  int to_device = 0;
  Box global_box;

  bool operator==(const RedistributionMessage&) const = default;
};

// Messages after which every receiver device holds its box (graph/layout.h: shard_box, cut at the
// true size, so padding is never sent). Each element comes from exactly one sender: the receiver
// itself if it holds it, else one of the devices that hold it, in turn over all receivers of that
// part, so equal receivers take from different replicas. No empty messages.
// Order: receivers by index in their mesh, parts by the first sender that holds them.
// Deterministic.
std::vector<RedistributionMessage> redistribution(const std::vector<std::int64_t>& shape,
                                                  const TensorPlacement& sender,
                                                  const TensorPlacement& receiver);

}  // namespace shardwise
