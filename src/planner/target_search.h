// The best plan that another framework can express (graph/framework_plan.h).
#pragma once

#include "graph/framework_plan.h"
#include "planner/planner.h"

namespace shardwise {

// The fastest plan of find_plan's space that fits, that `target` can express, whose stages are
// consecutive devices, and whose first and last layers do not recompute (frameworks keep what those
// need). One layout for all layers, any split of them: every such layout is priced, splits are
// exact (target_split.h), layouts are dropped by proven bounds only. Constraints and limits of the
// request hold as well. `infeasibility` and `runner_ups` stay empty. Deterministic; one thread.
// Throws InputError for a model that is no decoder, and what find_plan throws.
PlanResult find_target_plan(const PlanRequest& request,
                            Framework target,
                            const Cluster& cluster,
                            const CostTable& costs);

}  // namespace shardwise
