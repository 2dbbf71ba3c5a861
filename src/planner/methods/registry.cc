#include "planner/methods/registry.h"

#include <fmt/format.h>

#include "core/errors.h"
#include "planner/methods/amp.h"
#include "planner/methods/galvatron.h"

namespace shardwise {

const std::vector<PlanningMethod>& planning_methods() {
  static const std::vector<PlanningMethod> methods = {
      {"shardwise", "exact", find_plan},
      {"megatron", "best uniform grid", find_megatron_plan},
      {"amp", "AMP's grid and layer split", find_amp_plan},
      {"galvatron", "Galvatron's decision tree, even stages", find_galvatron_plan},
  };
  return methods;
}

const PlanningMethod& planning_method(const std::string& name) {
  std::string names;
  for (const PlanningMethod& method : planning_methods()) {
    if (method.name == name) {
      return method;
    }
    names += (names.empty() ? "" : ", ") + method.name;
  }
  throw InputError("--method", fmt::format("expected one of {}, found \"{}\"", names, name));
}

}  // namespace shardwise
