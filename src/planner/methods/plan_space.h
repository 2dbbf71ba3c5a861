// Whether a plan lies in the space of find_plan, so that a method's answer may be compared with it.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "graph/cluster.h"
#include "graph/plan.h"
#include "planner/planner.h"

namespace shardwise::planning {

// Whether a list of what is allowed, of which an empty one allows all, has the value.
template <typename Value>
bool allows(const std::vector<Value>& allowed, Value value) {
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

// Whether degrees, recomputation and sharding of state keep to SpaceLimits. Free axes that shard
// the batch are not looked for.
bool is_within(const SpaceLimits& limits, const Plan& plan);

// Schedule and micro-batches that the request allows, within its limits; stages of one device type
// each and of sizes that the space has (space.h); no more free mesh axes than the request has.
// Constraints are not looked at.
bool is_in_space(const Plan& plan, const PlanRequest& request, const Cluster& cluster);

// The plan of a uniform layout on all devices, or nothing if the layout does not fit the model or
// its plan lies outside the space. `graph`: of layout.microbatch() sequences.
std::optional<Plan> find_uniform_plan(const UniformLayout& layout,
                                      const Graph& graph,
                                      const PlanRequest& request,
                                      const Cluster& cluster);

}  // namespace shardwise::planning
