#include "planner/methods/registry.h"

#include <fmt/format.h>

#include "core/errors.h"
#include "planner/methods/alpa_plan.h"
#include "planner/methods/amp.h"
#include "planner/methods/galvatron.h"
#include "planner/methods/piper_plan.h"
#include "planner/methods/uniap_plan.h"

namespace shardwise {

const std::vector<PlanningMethod>& planning_methods() {
  static const std::vector<PlanningMethod> methods = {
      {"shardwise", "exact", find_plan},
      {"megatron", "best uniform grid", find_megatron_plan},
      {"uniap", "UniAP's programme: equal stages, strategies by layer, GPipe", find_uniap_plan},
      {"uniap-inter", "its ablation: one strategy for all layers", find_uniap_inter_plan},
      {"uniap-intra", "its ablation: one stage", find_uniap_intra_plan},
      {"alpa", "Alpa's two levels: shardings in a stage, then stages", find_alpa_plan},
      {"amp", "AMP's grid and layer split", find_amp_plan},
      {"galvatron", "Galvatron's decision tree, even stages", find_galvatron_plan},
      {"piper", "Piper's stages, degrees and recomputation", find_piper_graph_plan},
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
