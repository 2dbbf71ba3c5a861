// Why nothing fits.
#pragma once

#include <optional>

#include "planner/deadline.h"
#include "planner/planner.h"

namespace shardwise::planning {

// For a request of which find_plan proved that nothing fits: the least memory that every device
// would need on top, found by searching again with more memory, and the fullest stage of a plan
// that then fits. Nothing if no memory would do (no mesh, no schedule) or the deadline passes
// first.
std::optional<Infeasibility> explain_infeasible(const PlanRequest& request,
                                                const Cluster& cluster,
                                                const CostTable& costs,
                                                const Deadline& deadline);

}  // namespace shardwise::planning
