// Whether a plan lies in the space of find_plan, so that a method's answer may be compared with it.
#pragma once

#include <algorithm>

#include "graph/cluster.h"
#include "graph/plan.h"
#include "planner/planner.h"
#include "planner/space.h"

namespace shardwise::planning {

// Whole nodes or even parts of one, where the request's stages keep to them (space.h).
inline bool has_stage_sizes(const Plan& plan, const PlanRequest& request, const Cluster& cluster) {
  if (!is_aligned(request.limits, cluster)) {
    return true;
  }
  const int node = cluster.levels.front().size;
  return std::all_of(plan.stages.begin(), plan.stages.end(), [&](const StagePlan& stage) {
    const int size = static_cast<int>(stage.devices.size());
    const int first = stage.devices.front();
    return size < node ? node % size == 0 && first % size == 0
                       : size % node == 0 && first % node == 0;
  });
}

// Stages of one device type each and of sizes that the space has, and no more free mesh axes than
// the request has.
inline bool is_in_space(const Plan& plan, const PlanRequest& request, const Cluster& cluster) {
  const auto is_stage_in_space = [&](const StagePlan& stage) {
    const int axes = (stage.mesh.sizes[1] > 1 ? 1 : 0) + (stage.mesh.sizes[2] > 1 ? 1 : 0);
    const int type = cluster.type_of(stage.devices.front());
    return axes <= request.free_axes &&
           std::all_of(stage.devices.begin(), stage.devices.end(), [&](int device) {
             return cluster.type_of(device) == type;
           });
  };
  return has_stage_sizes(plan, request, cluster) &&
         std::all_of(plan.stages.begin(), plan.stages.end(), is_stage_in_space);
}

}  // namespace shardwise::planning
