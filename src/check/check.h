// Verifies a plan and what it claims, without the planner: valid for its model and cluster, within
// memory, and as fast as it says by `evaluate`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "check/work_bound.h"
#include "cost/evaluate.h"

namespace shardwise {

// What a plan file says about its plan; absent claims are not checked.
struct PlanClaims {
  std::optional<Picoseconds> step_time;
  std::optional<Picoseconds> lower_bound;
  std::vector<Bytes> stage_memory;  // total of the worst device of each stage; empty: no claim
  bool is_optimal = false;          // no plan is faster by more than `gap` (a share)
  double gap = 0;
  // One bound for each number of micro-batches; empty: no claim.
  std::vector<CountBound> certificate;
};

struct CheckReport {
  // Sentences, each with what was claimed and what was found; empty: the plan is sound.
  std::vector<std::string> violations;
  std::optional<Evaluation> evaluation;  // unset if the plan is invalid for the graph or cluster
  // Computed anew (work_bound.h); unset without a certificate among the claims.
  std::optional<BoundCertificate> certificate;
};

// Reports: everything of plan_violations; devices that the cluster lacks, or of two types in one
// stage; stages beyond their device's memory; a step time or memory that evaluate() does not
// confirm (exactly: the same table gives the same picoseconds); a lower bound above the step time,
// or too far below it for a plan that claims to be optimal; a certificate that lacks a number of
// micro-batches, claims more than certify_bound() proves, or contradicts the step time.
// `build` is asked for graphs of other micro-batches, for the certificate only.
CheckReport check_plan(const Plan& plan,
                       const MicrobatchGraph& build,
                       const Cluster& cluster,
                       const CostTable& costs,
                       const PlanClaims& claims);

}  // namespace shardwise
