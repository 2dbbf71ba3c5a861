// Planner and simulator together: the formulas choose the candidates, the replay the winner.
#pragma once

#include <string>
#include <vector>

#include "planner/planner.h"
#include "simulate/simulate.h"

namespace shardwise {

// A candidate under one schedule.
struct RefinedPlan {
  std::string origin;  // "best" or the runner-up's family
  Plan plan;
  Picoseconds formula_time{0};  // of the candidate with the schedule that it came with
  Picoseconds replayed_time{0};
  Bytes peak_memory{0};  // of the fullest device, reserve and process included
  bool fits = false;
};

// Replays the best plan of `result` and its fastest runner-ups, `candidates` plans in all, each
// under every schedule that its chunks allow: one chunk gpipe, 1f1b, 1f1b-eager, zb-h1, zb-h2,
// zb-1p, zb-2p; two chunks of equal stages also the V-shaped ones, the chunks placed anew. By fits,
// then replayed time, then the order of candidates and schedules. Empty if `result` has no plan.
// Schedules only: layouts, cuts and counts stay what the formulas have chosen. Deterministic.
std::vector<RefinedPlan> refine(const PlanResult& result,
                                int candidates,
                                const GraphBuilder& build,
                                const Cluster& cluster,
                                const CostTable& costs);

// The plan under another schedule, its chunks moved where that schedule has them; nothing if the
// number of chunks, the micro-batches or unequal stages do not allow it.
std::optional<Plan> with_schedule(const Plan& plan, Schedule schedule, const Graph& graph);

}  // namespace shardwise
