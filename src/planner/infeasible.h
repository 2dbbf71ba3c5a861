// Why nothing fits.
#pragma once

#include <optional>

#include "planner/planner.h"

namespace shardwise::planning {

// The plan whose worst stage exceeds its device by the least, and the smallest single change after
// which something fits. Nothing if the space has no plan at all (no mesh, no schedule).
std::optional<Infeasibility> explain_infeasible(const PlanRequest& request,
                                                const Cluster& cluster,
                                                const CostTable& costs);

}  // namespace shardwise::planning
