// The planning methods by name: ours and those of other planners, over the same graph, tables and
// evaluate(). A new method is a file here and a line in registry.cc.
#pragma once

#include <string>
#include <vector>

#include "planner/planner.h"

namespace shardwise {

struct PlanningMethod {
  std::string name;
  std::string summary;  // a few words
  PlanResult (*find)(const PlanRequest&, const Cluster&, const CostTable&);
};

// In the order of the help; the first is the default.
const std::vector<PlanningMethod>& planning_methods();

// Throws InputError that lists the methods.
const PlanningMethod& planning_method(const std::string& name);

}  // namespace shardwise
