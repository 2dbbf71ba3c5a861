// Finds the fastest plan that fits, and proves it. Exact: see docs/cost_model.md for the objective
// and DESIGN section 5 for the order of the search.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cost/cost_table.h"
#include "cost/evaluate.h"
#include "planner/uniform_layout.h"

namespace shardwise {

enum class StopReason { kOptimal, kFeasible, kInfeasible, kLimitReached };
std::string to_string(StopReason reason);

struct PlanRequest {
  GraphBuilder graph;
  std::int64_t batch = 1;
  std::int64_t sequence = 1;
  Precision precision = Precision::kFloat32;
  int free_axes = 2;                   // 1: the narrower named space
  std::vector<Schedule> schedules;     // empty: all
  std::vector<int> microbatch_counts;  // empty: all divisors of the batch
  double gap = 0;                      // stop when proved within this relative gap
  Seconds time_limit{1e9};
  int threads = 0;  // 0: hardware; the result does not depend on it
};

// Best plan of a family, for the runner-up table: "data", "tensor", "pipeline", ...
struct RunnerUp {
  std::string family;
  Plan plan;
  Picoseconds step_time{0};
};

// Why nothing fits: the smallest requirement found.
struct Infeasibility {
  int device = 0;
  StageMemory memory;  // of the plan that comes nearest to fitting
  int first_layer = 0;
  int end_layer = 0;
  std::string would_fit;  // smallest single change that would
};

struct PlanResult {
  StopReason stop_reason = StopReason::kInfeasible;  // kOptimal only if proved
  std::optional<Plan> plan;                          // set iff kOptimal or kFeasible
  Picoseconds step_time{0};                          // by evaluate(); read only if plan is set
  Picoseconds lower_bound{0};                        // proved: no plan of the space is faster
  std::vector<RunnerUp> runner_ups;                  // by step time
  std::optional<Infeasibility> infeasibility;        // set iff kInfeasible
  Seconds search_time{0};
  std::string space;  // what was searched, for the proof line
};

// Deterministic: equal inputs give the same plan (ties: explicit order), whatever the threads.
PlanResult find_plan(const PlanRequest& request, const Cluster& cluster, const CostTable& costs);

// Best uniform grid as Megatron-LM spans it: one tensor degree, pipeline degree, data degree,
// sequence parallelism on or off, ZeRO-1 on or off, recomputation mode, micro-batch size, schedule,
// for all layers alike; even layer split. Enumerates all of it with evaluate().
PlanResult find_megatron_plan(const PlanRequest& request,
                              const Cluster& cluster,
                              const CostTable& costs);

}  // namespace shardwise
