// The messages of one rank at the boundaries between chunks. Internal to lower.
#pragma once

#include <map>
#include <vector>

#include "lower/local_parameters.h"

namespace shardwise::internal {

// One message of this rank, for every micro-batch.
struct BoundaryMessage {
  int peer = 0;
  int number = 0;  // among the messages of this passage between the same two ranks
  Box box;         // in local indices of the boundary tensor as this rank holds it
  Bytes bytes{0};
};

// One direction of a boundary, as this rank sees it.
struct Passage {
  std::vector<BoundaryMessage> sends;
  std::vector<BoundaryMessage> receives;
  std::vector<BoundaryMessage> copies_from;  // both ends are this rank; the i-th goes to the i-th
  std::vector<BoundaryMessage> copies_to;
};

// Between virtual stages k and k + 1 (k = chunk * P + stage).
struct Boundary {
  bool stays = false;  // same devices, same layout: the next chunk takes the tensor over
  Passage forward;
  Passage backward;  // gradients: roles swapped, same layouts
};

// Redistributions between all virtual stages of a plan, made when first asked for and shared by its
// ranks. Refers to plan and graph.
class BoundaryMessages {
 public:
  BoundaryMessages(const Plan& plan, const Graph& graph) : plan_(plan), graph_(graph) {}

  // By virtual stage k; the last one has none. Passages of boundaries that `rank` is not part of
  // are empty.
  std::vector<Boundary> boundaries_of(int rank);

 private:
  struct Crossing {
    std::vector<std::int64_t> shape;
    std::int64_t element = 0;  // bytes
    TensorPlacement sender;
    TensorPlacement receiver;
    std::vector<RedistributionMessage> forward;
    std::vector<RedistributionMessage> backward;
  };
  const Crossing& crossing(int k);

  const Plan& plan_;
  const Graph& graph_;
  std::map<int, Crossing> crossings_;
};

}  // namespace shardwise::internal
