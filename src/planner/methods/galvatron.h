// Method `galvatron`: Galvatron's decision tree over our graph, tables and evaluate().
//
// Source: Miao et al., "Galvatron", VLDB 2023, sections 3 and 4, and its code (shared space:
// planner/galvatron_search.h): powers of two as pipeline, tensor and data degrees; an even stage
// split; sequence parallelism inside tensor groups; plain or gradient-sharded data parallelism for
// the whole run; ZeRO-3 and recomputation chosen layer by layer within the memory of a stage.
// Changed: a stage mixes at most two ways to run its layers, the optimum of its knapsack up to one
// layer, and memory is that of evaluate(). Left out: tensor degrees that change inside a stage.
#pragma once

#include "planner/planner.h"

namespace shardwise {

PlanResult find_galvatron_plan(const PlanRequest& request,
                               const Cluster& cluster,
                               const CostTable& costs);

}  // namespace shardwise
