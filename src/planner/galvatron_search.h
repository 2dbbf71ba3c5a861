// Exact search over Galvatron's space under Galvatron's formulas (cost/galvatron_costs.h), and the
// space itself.
//
//   const GalvatronResult best = find_galvatron_optimum(job);
//
// The space: micro-batch counts that divide the batch; powers of two as degrees; an even stage
// split, the remainder on the last stage; every layer of a stage its own tensor or Ulysses degree,
// ZeRO-3 and recomputation; embedding and head their own; a cap on the degrees, which sizes the
// shared buffer of tensor parallelism. Source: PKU-DAIR/Hetu-Galvatron, core/search_engine.
//
// The method: layers of a type are alike and only counts of strategies matter, so each stage is a
// knapsack over counts (count_knapsack.h). Later stages take their least compute time, which is
// best unless synchronisation of the third or a later stage is exposed; the first stage minimises
// the whole objective. Combinations are tried by growing bound until the bound is no better than
// the best plan. Where a later stage's synchronisation is exposed the answer carries its gap.
#pragma once

#include <optional>
#include <vector>

#include "cost/galvatron_costs.h"
#include "planner/planner.h"

namespace shardwise {

// One combination of Galvatron's outer enumeration.
struct GalvatronTask {
  int chunks = 1;
  std::vector<int> stage_layers;
  int buffer_degree = 0;
  std::vector<GalvatronStrategy> layers;  // what a layer may do
  std::vector<GalvatronStrategy> ends;    // what embedding and head may do
};

// All of them, in a fixed order; strategies whose degree was not profiled are left out.
std::vector<GalvatronTask> galvatron_tasks(const GalvatronJob& job);

struct GalvatronResult {
  StopReason stop_reason = StopReason::kInfeasible;
  std::optional<GalvatronPlan> plan;
  Seconds step_time{0};    // by evaluate_galvatron; read only if plan is set
  Seconds lower_bound{0};  // proved for the space
  int tasks = 0;           // combinations in the space
};

// Throws InputError for a job without layers or with a batch or device count below one.
GalvatronResult find_galvatron_optimum(const GalvatronJob& job);

}  // namespace shardwise
