// The best plan of each familiar family, so that a reader sees what the optimum gains.
#pragma once

#include <string>
#include <vector>

#include "planner/deadline.h"
#include "planner/planner.h"

namespace shardwise::planning {

// By step time; families without a plan that fits are left out.
std::vector<RunnerUp> find_runner_ups(const PlanRequest& request,
                                      const Cluster& cluster,
                                      const CostTable& costs,
                                      const Deadline& deadline);

// One sentence for the proof line.
std::string describe_space(const PlanRequest& request, const Cluster& cluster, int num_counts);

}  // namespace shardwise::planning
