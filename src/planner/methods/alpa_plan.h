// Method `alpa` over graphs: Alpa's two levels (alpa.h) with the prices of our tables.
//
// Source: Zheng et al., "Alpa", OSDI 2022, sections 4 and 5: for each run of layer groups, submesh
// and logical mesh, the operator shardings of least time whatever their memory; then the dynamic
// programme over stages with what 1F1B keeps in flight. Submeshes: 1, 2, 4, ... devices of a node
// and whole nodes.
// Changed: the shardings of a run come from a dynamic programme over its layers' boundaries, with a
// conversion that several uses share counted in equal parts (there: one integer programme); what is
// paid once a step counts in equal parts in each micro-batch. ZeRO is none, of the optimizer or of
// parameters, recomputation none or full, for the whole run (there: flags). Layers beyond 16 are
// grouped by number first (there: by work, into a number that the user gives). Among all
// micro-batch counts evaluate() chooses. Knows one type of devices; transfers between stages are
// free to it.
#pragma once

#include "planner/planner.h"

namespace shardwise {

PlanResult find_alpa_plan(const PlanRequest& request,
                          const Cluster& cluster,
                          const CostTable& costs);

}  // namespace shardwise
