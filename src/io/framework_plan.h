// A plan in the words of other frameworks: one tensor, context, data, expert and pipeline degree
// for all layers alike. What differs by layer has no words there and is refused with the reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/plan.h"

namespace shardwise {

struct FrameworkPlan {
  int tensor = 1;
  int context = 1;
  int data = 1;
  int expert = 1;
  int pipeline = 1;
  int chunks = 1;
  bool sequence_parallel = false;  // norms and residual adds shard the sequence over tensor ranks
  int zero = 0;
  bool recomputes = false;  // the whole of every layer but embedding and head
  Schedule schedule = Schedule::k1F1B;
  Precision precision = Precision::kFloat32;
  std::int64_t micro = 1;  // sequences of a micro-batch on one data rank
  std::int64_t batch = 1;
  std::int64_t sequence = 1;
  int num_microbatches = 1;
  std::vector<int> layers;  // decoder layers of each virtual stage, in model order

  int world() const { return tensor * context * data * pipeline; }
  bool is_even() const;
};

// Throws InputError that begins with `where` and names layer and op if layers differ, if the model
// is no decoder, or if ranks are in another order than tensor, context, data, pipeline (innermost
// first). Requires a valid plan of the graph (plan_violations).
FrameworkPlan describe_for_frameworks(const Plan& plan,
                                      const Graph& graph,
                                      const std::string& where);

}  // namespace shardwise
