// A lower bound on the step time of every plan, with code and arguments of its own: nothing of the
// planner's search is used or believed.
//
// With N devices, m micro-batches and any stages i on n_i devices each (docs/cost_model.md, "Step
// time"), every schedule's step is at least
//
//   m max_i p_i + max_i s_i + overhead  >=  sum_i n_i (m p_i + s_i) / N + overhead
//
// and p_i, s_i hold at least the kernels and updates of the ops in the stage. An op that shards
// loop axes a by c_a uses n_i >= prod_a c_a devices, so
//
//   sum_i n_i (m p_i + s_i)  >=  W_m = sum_ops min_c prod_a c_a (m kernels(c) + update(c))
//
// The minimum is over every way to shard up to three loop axes of the op, every device type, and
// state shared out or not. It is exact for the relaxed problem (W_m is its optimum), enumerated op
// by op. Left out, so the bound is below the optimum by them: collectives, transfers, pipeline
// fill, recomputation, what memory forces.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cost/cost_table.h"
#include "graph/plan.h"

namespace shardwise {

// What was proved for one number of micro-batches, over all schedules, stages and layouts.
struct CountBound {
  int num_microbatches = 1;
  Picoseconds bound{0};

  bool operator==(const CountBound&) const = default;
};

// A proof that no plan of a step is faster than the least of its bounds: one for every number of
// micro-batches that divides the batch.
struct BoundCertificate {
  std::vector<CountBound> counts;  // ascending

  Picoseconds lower_bound() const;
  bool operator==(const BoundCertificate&) const = default;
};

using MicrobatchGraph = std::function<Graph(std::int64_t microbatch)>;

// Every bound computed anew. Requires batch >= 1. Throws what the table throws. Pure.
BoundCertificate certify_bound(const MicrobatchGraph& graph,
                               std::int64_t batch,
                               Precision precision,
                               const Cluster& cluster,
                               const CostTable& costs);

}  // namespace shardwise
