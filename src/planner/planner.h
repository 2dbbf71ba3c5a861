// Finds the fastest plan that fits, and proves it. Exact: docs/cost_model.md states the objective,
// README.md here the space and the order of the search.
//
//   PlanRequest request;
//   request.graph = [&](std::int64_t microbatch) { return build_graph(model, microbatch, 1024); };
//   request.batch = 64;
//   request.sequence = 1024;
//   const PlanResult result = find_plan(request, cluster, table);
//   if (result.plan) { ... evaluate(*result.plan, ...).step_time == result.step_time ... }
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cost/cost_table.h"
#include "cost/evaluate.h"
#include "graph/constraints.h"
#include "planner/uniform_layout.h"

namespace shardwise {

// kOptimal: proved, within PlanRequest::gap. kFeasible: a plan, but a limit cut its proof short.
// kInfeasible: proved that nothing fits. kLimitReached: no plan found before the limit.
enum class StopReason { kOptimal, kFeasible, kInfeasible, kLimitReached };
std::string to_string(StopReason reason);

// What plans may do. The default is the whole space; every field only narrows it.
struct SpaceLimits {
  std::vector<StateSharding> state_shardings;  // empty: all
  std::vector<Recompute> recomputes;           // empty: all
  int max_stages = 0;                          // 0: no limit
  int max_stage_devices = 0;                   // 0: no limit
  int max_data_degree = 0;                     // of the mesh's data axis; 0: no limit
  // kForbidden: free mesh axes never shard "b", so only the data axis splits the batch.
  enum class BatchOnFreeAxes { kAllowed, kForbidden };
  BatchOnFreeAxes batch_on_free_axes = BatchOnFreeAxes::kAllowed;
  // kAligned: stages of whole nodes, or of a part of a node that divides it, and free axes that
  // divide some dimension without padding. kAuto: kAll up to 16 devices, beyond that kAligned.
  enum class StageSizes { kAuto, kAll, kAligned };
  StageSizes stage_sizes = StageSizes::kAuto;
};

enum class RunnerUps { kFind, kSkip };

// Where a search is, for whoever watches it from another thread; picoseconds of a step. Zero until
// there is something to say. No field ever worsens.
struct SearchProgress {
  std::atomic<double> best{0};   // step time of the fastest plan found
  std::atomic<double> bound{0};  // proved: no plan is faster
};

struct PlanRequest {
  GraphBuilder graph;  // with `threads` other than 1 called from two threads at once
  std::int64_t batch = 1;
  std::int64_t sequence = 1;
  Precision precision = Precision::kFloat32;
  int free_axes = 2;                   // 0 (data axis only), 1 or 2
  std::vector<Schedule> schedules;     // empty: all
  std::vector<int> microbatch_counts;  // empty: all divisors of the batch
  SpaceLimits limits;
  // Every plan keeps to them (check_constraints says which make sense).
  Constraints constraints;
  double gap = 0;  // stop when proved within this relative gap
  Seconds time_limit{1e9};
  Seconds explanation_limit{5};  // of the search, within time_limit, for why nothing fits
  const std::atomic<bool>* stop = nullptr;  // ends the search, as the time limit does, once true
  int threads = 0;                          // at most so many (0: any); runner-ups take a second
  RunnerUps runner_ups = RunnerUps::kFind;
  SearchProgress* progress = nullptr;  // kept current by find_plan if set
};

// Best plan of a family, for the runner-up table: "data", "tensor", "pipeline", ...
struct RunnerUp {
  std::string family;
  Plan plan;
  Picoseconds step_time{0};
};

// Why nothing fits: the worst stage of a plan that needs the least memory on top.
struct Infeasibility {
  int device = 0;      // first device of that stage
  StageMemory memory;  // of that stage
  int first_layer = 0;
  int end_layer = 0;
  Bytes extra_memory{0};  // with so much more on every device this plan fits
  bool is_least = false;  // proved, within 1/4096 of a device's memory
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

// The fastest plan of the space (README.md, "The space") that fits. Deterministic: equal inputs
// give the same plan, whatever the threads, unless the time limit cuts the search short. Throws
// InputError for a request that no plan can satisfy (batch, counts, degrees below one) and what the
// table throws. Thread-safe.
PlanResult find_plan(const PlanRequest& request, const Cluster& cluster, const CostTable& costs);

// Best uniform grid as Megatron-LM spans it (planner/uniform_layout.h): one tensor degree, pipeline
// degree, data degree, sequence parallelism on or off, ZeRO-1 on or off, recomputation mode,
// micro-batch size and schedule for all layers alike; even layer split; all devices. Enumerates all
// of it with evaluate(). Every one of these plans lies in the space of find_plan.
PlanResult find_megatron_plan(const PlanRequest& request,
                              const Cluster& cluster,
                              const CostTable& costs);

}  // namespace shardwise
