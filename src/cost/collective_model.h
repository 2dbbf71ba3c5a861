// Time of a collective: as measured where a cluster holds a table of it, else from the bandwidths
// and latencies of its levels (docs/cost_model.md, "Modelled table").
#pragma once

#include <map>
#include <tuple>

#include "cost/cost_table.h"
#include "cost/model_constants.h"
#include "cost/size_curve.h"
#include "graph/cluster.h"

namespace shardwise {

class CollectiveModel {
 public:
  // Copies what it needs of `cluster`, which has at least one level.
  explicit CollectiveModel(const Cluster& cluster);

  // Measured for this kind, level, ranks and ranks a node: read_curve of the sizes.
  // Else with n ranks, g of them on each of k nodes, S bytes of the whole (gathered) tensor, B a
  // level's bandwidth that collectives reach, t its latency, p = 2 passes of an all-reduce, else 1:
  //   latency          t_node + p ((g - 1) ring_step + ceil(log2 k) t_network)
  //   ring             p S (n - 1) / n / min(B_node, g B_network)
  //   in the switch    S / (bandwidth_node in_switch), all-reduce inside a node whose switch adds
  //   tree             max(2 S (g - 1) / g / B_node, S / (g B_network)), all-reduce on two nodes
  //   all-to-all       max(S (g - 1) / n / B_node, S (n - g) / n / B_network) / all_to_all; with
  //                    token_copies c > 1 the shares of S / c that distinct ranks and nodes get
  // the fastest of those that apply. Rings: Patarasuk and Yuan, JPDC 2009; trees: Sanders, Speck
  // and Traeff, 2009; latency of a step over NVLink: NCCL, graph/tuning.cc.
  Estimate time(CollectiveKind kind,
                Bytes payload,
                const GroupPlacement& placement,
                int token_copies,
                const ModelConstants& constants) const;

  // A message between two devices: latency + size / B.
  Seconds message(Bytes size, int level, const ModelConstants& constants) const;

 private:
  // That a ring through `devices` of a node reaches.
  double node_rate(int devices, const ModelConstants& constants) const;

  std::vector<NetworkLevel> levels_;
  // kind, level, ranks, ranks a node
  std::map<std::tuple<CollectiveKind, int, int, int>, SizeCurve> measured_;
};

}  // namespace shardwise
