// What a profile has to measure so that every plan of a model on a number of ranks can be priced.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cost/cost_table.h"
#include "cost/op_key.h"

namespace shardwise {

// One kernel execution to time: `op` shrunk to the local sizes, so that it can run on one device by
// itself (mesh 1 x 1 x 1); op_key(op, its sizes) == key.
struct RequiredOp {
  OpKey key;
  Op op;
  std::vector<std::int64_t> sizes;  // of op.axes: axes[i].size == sizes[i]
  std::vector<Direction> directions;
};

struct RequiredCollective {
  CollectiveKind kind = CollectiveKind::kAllReduce;
  Precision precision = Precision::kFloat32;  // kFloat32 for all-gather and all-to-all
  GroupPlacement placement;
  Bytes smallest{0};  // payloads that plans can ask for
  Bytes largest{0};
};

struct RequiredTransfer {
  int level = 0;
  int concurrent = 1;
  Bytes smallest{0};
  Bytes largest{0};
};

struct RequiredMeasurements {
  std::vector<RequiredOp> ops;  // distinct keys, sorted; first size ascending within a family
  std::vector<RequiredCollective> collectives;
  std::vector<RequiredTransfer> transfers;
  std::int64_t smallest_update = 0;  // elements of one optimizer call
  std::int64_t largest_update = 0;
  Bytes smallest_accumulation{0};
  Bytes largest_accumulation{0};
  std::vector<int> rank_counts;  // of step_overhead: one rank and all of them
};

// All meshes of up to `ranks` devices (`free_axes` free mesh axes beside data), all valid
// assignments of every op (data axis on b; experts also xb), all micro-batch sizes that divide
// `batch`. `graph(microbatch)` builds the graph; `cluster` has at least `ranks` devices of one
// type.
RequiredMeasurements required_measurements(const std::function<Graph(std::int64_t)>& graph,
                                           std::int64_t batch,
                                           Precision precision,
                                           const Cluster& cluster,
                                           int ranks,
                                           int free_axes);

}  // namespace shardwise
