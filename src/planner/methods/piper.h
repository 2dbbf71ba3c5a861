// Method `piper`: the plan that is best under Piper's objective (cost/piper_problem.h).
//
//   PiperProblem problem = read_piper_problem("gnmt.json");
//   const PiperResult result = find_piper_plan(problem);
//
// Source: Tarnawski, Narayanan, Phanishayee, "Piper", NeurIPS 2021: stages are differences of sets
// closed under successors ("downsets"); state = (downset, devices, sum of data degrees). Changed:
// the bottleneck is bisected, and for a bottleneck only the undominated (devices, sum of degrees)
// of a downset are kept, cut by the work that is left; the choice of implementations inside a stage
// is exact (count_knapsack.h), where Piper's is greedy.
#pragma once

#include <cstdint>
#include <optional>

#include "cost/piper_problem.h"
#include "planner/planner.h"

namespace shardwise {

struct PiperResult {
  StopReason stop_reason = StopReason::kInfeasible;
  std::optional<PiperPlan> plan;
  double seconds_per_microbatch = 0;  // by evaluate_piper; read only if plan is set
  double lower_bound = 0;             // proved, to a relative 1e-9
  std::size_t downsets = 0;
};

// Throws InputError for more than 256 nodes or 200,000 downsets. Deterministic.
PiperResult find_piper_plan(const PiperProblem& problem);

}  // namespace shardwise
