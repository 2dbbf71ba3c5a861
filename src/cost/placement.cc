// Where the ranks of a stage's groups sit (CostTable's placement_of).
#include <algorithm>
#include <vector>

#include "core/errors.h"
#include "cost/cost_table.h"

namespace shardwise {

namespace {

int node_of(const Cluster& cluster, int device) {
  return cluster.levels.empty() ? 0 : device / std::max(cluster.levels.front().size, 1);
}

// Devices of each group along the mesh axes in `axes`.
std::vector<std::vector<int>> groups_along(const std::vector<int>& devices,
                                           const Mesh& mesh,
                                           unsigned axes) {
  std::vector<std::vector<int>> by_first(devices.size());  // by the group's first place
  for (int i = 0; i < mesh.devices(); ++i) {
    MeshCoordinates shared = coordinates_of(mesh, i);
    for (int m = 0; m < kMeshAxes; ++m) {
      if ((axes >> m & 1U) != 0) {
        shared[static_cast<std::size_t>(m)] = 0;
      }
    }
    by_first[static_cast<std::size_t>(index_of(mesh, shared))].push_back(
        devices[static_cast<std::size_t>(i)]);
  }
  std::erase_if(by_first, [](const std::vector<int>& group) { return group.empty(); });
  return by_first;
}

}  // namespace

GroupPlacement placement_of(const Cluster& cluster,
                            const std::vector<int>& devices,
                            const Mesh& mesh,
                            unsigned axes) {
  SHARDWISE_CHECK(static_cast<int>(devices.size()) == mesh.devices(), "one device for each place");
  GroupPlacement worst;
  worst.device_type = cluster.type_of(devices.front());
  std::vector<int> groups_on_node(static_cast<std::size_t>(
      1 + node_of(cluster, *std::max_element(devices.begin(), devices.end()))));
  bool first = true;
  for (std::vector<int>& group : groups_along(devices, mesh, axes)) {
    std::sort(group.begin(), group.end());  // so that a node's ranks follow each other
    int fewest = static_cast<int>(group.size());
    for (std::size_t i = 0; i < group.size();) {
      const int node = node_of(cluster, group[i]);
      int ranks = 0;
      for (; i < group.size() && node_of(cluster, group[i]) == node; ++i) {
        ++ranks;
      }
      fewest = std::min(fewest, ranks);
      ++groups_on_node[static_cast<std::size_t>(node)];
    }
    const int level = level_spanned(cluster, group);
    if (first || level > worst.level || (level == worst.level && fewest < worst.ranks_per_node)) {
      worst.level = level;
      worst.ranks_per_node = fewest;
    }
    worst.ranks = static_cast<int>(group.size());
    first = false;
  }
  worst.concurrent = *std::max_element(groups_on_node.begin(), groups_on_node.end());
  return worst;
}

}  // namespace shardwise
