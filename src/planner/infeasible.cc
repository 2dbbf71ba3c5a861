#include "planner/infeasible.h"

namespace shardwise::planning {

std::optional<Infeasibility> explain_infeasible(const PlanRequest&,
                                                const Cluster&,
                                                const CostTable&) {
  return std::nullopt;
}

}  // namespace shardwise::planning
