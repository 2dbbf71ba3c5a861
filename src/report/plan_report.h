// A plan and its account for people: layer strip, time by term, memory against the limit,
// runner-ups, proof line; and why nothing fits.
#pragma once

#include <string>

#include "cost/evaluate.h"
#include "planner/planner.h"

namespace shardwise {

// What the plan does with each layer, equal neighbours together:
//   stage 0  devices 0-1  data 2            embedding .. layer.3   b  | zero: optimizer
std::string plan_strip(const Plan& plan, const Graph& graph);

// How one layer is run, in a few words: "data 2, free 2 on n f v, state optimizer, recompute full".
std::string describe_layer(const Graph& graph, const Plan& plan, int layer);

// Rows = terms of docs/cost_model.md, columns = stages; then the sum that makes the step.
std::string time_table(const Plan& plan, const Evaluation& evaluation);

// Rows = parts, columns = stages, with a bar of the total against the limit.
std::string memory_table(const Evaluation& evaluation);

std::string runner_up_table(const PlanResult& result);

// "proved optimal: no plan of the space searched is faster than 12.3 ms (...)" or the gap.
std::string proof_line(const PlanResult& result);

// Which device, needed and available bytes by part, the smallest change that would fit.
std::string infeasibility_text(const Infeasibility& infeasibility, const Graph& graph);

double tokens_per_second(const Plan& plan, Picoseconds step_time);

}  // namespace shardwise
