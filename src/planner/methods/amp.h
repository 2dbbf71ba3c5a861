// Method `amp`: AMP's candidate grid and its layer split, over our graph, tables and evaluate().
//
// Source: Li, Xu, He, Wang, Xie, "AMP", NeurIPS 2022, sections 3 and 4, and its code: tensor
// degrees divide the devices of a node, data degrees divide the rest, micro-batch sizes divide the
// batch of a data rank; stages take what is left. For each candidate layers are split over the
// stages by
//
//   minimise sum of stage times + (m - 1) longest stage + sum of transfers
//
// Changed: its dynamic programme mixes values with and without the last transfer, here the split is
// exact; its memory is found by running, here by evaluate(), so that every answer fits. Its space
// knows no recomputation, ZeRO or sequence parallelism.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/planner.h"

namespace shardwise {

struct AmpCandidate {
  int tensor = 1;
  int data = 1;
  int pipeline = 1;
  std::int64_t micro = 1;  // sequences of a micro-batch on one data rank
};

// All candidates, in a fixed order.
std::vector<AmpCandidate> amp_candidates(int devices, int devices_per_node, std::int64_t batch);

// Layers of each of `stages` stages: the split of the header's objective for layer times `layers`
// and transfers `transfers` behind each layer but the last. Exact; ties: the earlier cuts. Requires
// 1 <= stages <= layers.
std::vector<int> split_layers(const std::vector<Picoseconds>& layers,
                              const std::vector<Picoseconds>& transfers,
                              int stages,
                              int microbatches);

PlanResult find_amp_plan(const PlanRequest& request,
                         const Cluster& cluster,
                         const CostTable& costs);

}  // namespace shardwise
