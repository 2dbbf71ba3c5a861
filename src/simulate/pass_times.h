// What the passes of each virtual stage take: searched schedules (lower/schedule.h) go by it.
#pragma once

#include <vector>

#include "cost/cost_table.h"
#include "lower/schedule.h"

namespace shardwise {

// By virtual stage, in seconds: kernels, conversions and gathers of one micro-batch on the stage's
// slowest device, recomputation with the input part; the transfer to the next virtual stage in the
// slower direction; bytes that weight parts still read over the bytes kept for backward. Requires a
// valid plan.
std::vector<PassTimes> pass_times(const Plan& plan,
                                  const Graph& graph,
                                  const Cluster& cluster,
                                  const CostTable& costs);

}  // namespace shardwise
