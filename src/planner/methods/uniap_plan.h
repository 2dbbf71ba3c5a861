// Methods `uniap`, `uniap-inter` and `uniap-intra` over graphs: UniAP's programme (uniap.h) with
// the prices of our tables.
//
// Source: Lin, Wu, Li, Li, Li, "UniAP", CVPR 2025, sections 3.2 to 3.4 and its algorithm 1: for
// each divisor of the devices as number of stages and each divisor of the batch from 2 on as number
// of micro-batches (one stage: one micro-batch), the best strategies and stages of its objective.
// Strategies of a layer: data, tensor and fully sharded data parallelism and their mixes on the
// devices of a stage.
// Changed: prices are those of cost/evaluate, what is paid once a step counts in equal parts in
// each micro-batch; among the optima of all pairs the one that evaluate() finds fastest is the
// answer; memory that the programme does not know (transients) is taken off and the programme
// solved again. The optimum is that of our exact search (solve_uniap_exactly), which equals
// HiGHS's and takes a fraction of its time. Left out: layers of one stage whose mixes of degrees
// need different meshes. Knows GPipe and one type of devices.
#pragma once

#include "planner/planner.h"

namespace shardwise {

PlanResult find_uniap_plan(const PlanRequest& request,
                           const Cluster& cluster,
                           const CostTable& costs);
// Its ablations: one strategy for all layers; one stage.
PlanResult find_uniap_inter_plan(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs);
PlanResult find_uniap_intra_plan(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs);

}  // namespace shardwise
