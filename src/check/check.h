// Verifies a plan and what it claims, without the planner: valid for its model and cluster, within
// memory, and as fast as it says by `evaluate`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cost/evaluate.h"

namespace shardwise {

// What a plan file says about its plan; absent claims are not checked.
struct PlanClaims {
  std::optional<Picoseconds> step_time;
  std::optional<Picoseconds> lower_bound;
  std::vector<Bytes> stage_memory;  // total of the worst device of each stage; empty: no claim
};

struct CheckReport {
  // Sentences, each with what was claimed and what was found; empty: the plan is sound.
  std::vector<std::string> violations;
  std::optional<Evaluation> evaluation;  // unset if the plan is invalid for the graph or cluster
};

// Reports: everything of plan_violations; devices that the cluster lacks, or of two types in one
// stage; stages beyond their device's memory; a step time, memory or bound that evaluate() does not
// confirm (exactly: the same table gives the same picoseconds).
CheckReport check_plan(const Plan& plan,
                       const Graph& graph,
                       const Cluster& cluster,
                       const CostTable& costs,
                       const PlanClaims& claims);

}  // namespace shardwise
