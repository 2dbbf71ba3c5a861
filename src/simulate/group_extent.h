// How far a group of devices stretches over the network. Internal to simulate.
#pragma once

#include <vector>

#include "graph/cluster.h"

namespace shardwise::internal {

struct GroupExtent {
  int level = 0;           // lowest level that holds the whole group
  int ranks_per_node = 1;  // fewest of the group on one of its nodes

  bool operator==(const GroupExtent&) const = default;
};
GroupExtent extent_of(const Cluster& cluster, const std::vector<int>& devices);

// Devices of one part of level 0; all of them without levels.
int node_size(const Cluster& cluster);

}  // namespace shardwise::internal
