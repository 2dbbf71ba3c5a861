// Whether a plan lies in the space of find_plan, so that a method's answer may be compared with it.
#pragma once

#include <algorithm>

#include "graph/cluster.h"
#include "graph/plan.h"
#include "planner/planner.h"

namespace shardwise::planning {

// Stages of one device type each, and no more free mesh axes than the request has.
inline bool is_in_space(const Plan& plan, const PlanRequest& request, const Cluster& cluster) {
  return std::all_of(plan.stages.begin(), plan.stages.end(), [&](const StagePlan& stage) {
    const int axes = (stage.mesh.sizes[1] > 1 ? 1 : 0) + (stage.mesh.sizes[2] > 1 ? 1 : 0);
    const int type = cluster.type_of(stage.devices.front());
    return axes <= request.free_axes &&
           std::all_of(stage.devices.begin(), stage.devices.end(), [&](int device) {
             return cluster.type_of(device) == type;
           });
  });
}

}  // namespace shardwise::planning
