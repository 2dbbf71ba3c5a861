// Method `piper` over graphs: Piper's problem (cost/piper_problem.h) with the prices of our tables,
// solved exactly (piper.h), as a plan.
//
// Source: Tarnawski, Narayanan, Phanishayee, "Piper", NeurIPS 2021, section 3. For each number of
// sequences that one replica takes at a time, a node is a layer with its time, memory and
// parameters at each tensor degree, with and without recomputation; stages take any tensor and data
// degree. Changed: replicas of a stage share a micro-batch of all of them (there: take turns), so
// stages with fewer replicas than others run more sequences at once; a plan that evaluate() finds
// too large is sought again with less memory; among the optima evaluate() chooses. Its schedule is
// 1F1B. Left out: ZeRO and sequence parallelism, which Piper does not know. Knows one type of
// devices.
#pragma once

#include "planner/planner.h"

namespace shardwise {

PlanResult find_piper_graph_plan(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs);

}  // namespace shardwise
