#include "simulate/group_extent.h"

#include <algorithm>
#include <map>

namespace shardwise::internal {

GroupExtent extent_of(const Cluster& cluster, const std::vector<int>& devices) {
  std::map<int, int> on_node;
  for (const int device : devices) {
    ++on_node[device / node_size(cluster)];
  }
  int fewest = static_cast<int>(devices.size());
  for (const auto& [node, count] : on_node) {
    fewest = std::min(fewest, count);
  }
  return {level_spanned(cluster, devices), fewest};
}

int node_size(const Cluster& cluster) {
  const int size = cluster.levels.empty() ? cluster.num_devices() : cluster.levels.front().size;
  return std::max(size, 1);
}

}  // namespace shardwise::internal
