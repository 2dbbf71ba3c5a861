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

// A redistribution as equal copies of a smaller one: for each c in [0, copies) and each message, so
// many elements go from sender.devices[from + c * sender_stride] to
// receiver.devices[to + c * receiver_stride]. Boxes and local copies are left out.
struct RepeatedMessages {
  struct Message {
    int from = 0;  // indices in the placements' devices
    int to = 0;
    std::int64_t elements = 0;
  };
  int copies = 1;
  int sender_stride = 0;
  int receiver_stride = 0;
  std::vector<Message> messages;  // of one copy
};

// The messages of redistribution(), at the price of one copy. Both data axes cut the first
// dimension: with d and d' shards there are gcd(d, d') equal copies, if nothing is padded and the
// senders' devices come before or behind all of the receivers'; else one.
RepeatedMessages repeated_messages(const std::vector<std::int64_t>& shape,
                                   const TensorPlacement& sender,
                                   const TensorPlacement& receiver);

}  // namespace shardwise
