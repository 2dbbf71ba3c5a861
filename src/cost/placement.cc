// Where the ranks of a stage's groups sit (CostTable's placement_of).
#include <algorithm>
#include <map>

#include "core/errors.h"
#include "cost/cost_table.h"

namespace shardwise {

namespace {

int node_of(const Cluster& cluster, int device) {
  return cluster.levels.empty() ? 0 : device / std::max(cluster.levels.front().size, 1);
}

// Devices of each group along the mesh axes in `axes`, keyed by the coordinates they share.
std::map<MeshCoordinates, std::vector<int>> groups_along(const std::vector<int>& devices,
                                                         const Mesh& mesh,
                                                         unsigned axes) {
  std::map<MeshCoordinates, std::vector<int>> groups;
  for (int i = 0; i < mesh.devices(); ++i) {
    MeshCoordinates shared = coordinates_of(mesh, i);
    for (int m = 0; m < kMeshAxes; ++m) {
      if ((axes >> m & 1U) != 0) {
        shared[static_cast<std::size_t>(m)] = 0;
      }
    }
    groups[shared].push_back(devices[static_cast<std::size_t>(i)]);
  }
  return groups;
}

}  // namespace

GroupPlacement placement_of(const Cluster& cluster,
                            const std::vector<int>& devices,
                            const Mesh& mesh,
                            unsigned axes) {
  SHARDWISE_CHECK(static_cast<int>(devices.size()) == mesh.devices(), "one device for each place");
  GroupPlacement worst;
  worst.device_type = cluster.type_of(devices.front());
  std::map<int, int> groups_on_node;
  bool first = true;
  for (const auto& [shared, group] : groups_along(devices, mesh, axes)) {
    std::map<int, int> ranks_on_node;
    for (const int device : group) {
      ++ranks_on_node[node_of(cluster, device)];
    }
    int fewest = static_cast<int>(group.size());
    for (const auto& [node, ranks] : ranks_on_node) {
      fewest = std::min(fewest, ranks);
      ++groups_on_node[node];
    }
    const int level = level_spanned(cluster, group);
    if (first || level > worst.level || (level == worst.level && fewest < worst.ranks_per_node)) {
      worst.level = level;
      worst.ranks_per_node = fewest;
    }
    worst.ranks = static_cast<int>(group.size());
    first = false;
  }
  for (const auto& [node, groups] : groups_on_node) {
    worst.concurrent = std::max(worst.concurrent, groups);
  }
  return worst;
}

}  // namespace shardwise
