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

// Calls visit(devices of the group, ascending) for each group along the mesh axes in `axes`.
template <typename Visit>
void for_each_group(const std::vector<int>& devices, const Mesh& mesh, unsigned axes, Visit visit) {
  MeshCoordinates across = mesh.sizes;  // how many groups side by side, by axis
  MeshCoordinates along = mesh.sizes;   // ranks of a group
  for (int m = 0; m < kMeshAxes; ++m) {
    ((axes >> m & 1U) != 0 ? across : along)[static_cast<std::size_t>(m)] = 1;
  }
  const bool is_sorted = std::is_sorted(devices.begin(), devices.end());
  const auto for_each_place = [&](const MeshCoordinates& sizes, auto use) {
    for (int data = 0; data < sizes[0]; ++data) {
      for (int first = 0; first < sizes[1]; ++first) {
        for (int second = 0; second < sizes[2]; ++second) {
          use(index_of(mesh, {data, first, second}));
        }
      }
    }
  };
  std::vector<int> group;
  for_each_place(across, [&](int leader) {
    group.clear();
    for_each_place(along, [&](int offset) {
      const int place = leader + offset;
      group.push_back(devices[static_cast<std::size_t>(place)]);
    });
    if (!is_sorted) {
      std::sort(group.begin(), group.end());
    }
    visit(group);
  });
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
  for_each_group(devices, mesh, axes, [&](const std::vector<int>& group) {
    int fewest = static_cast<int>(group.size());
    for (std::size_t i = 0; i < group.size();) {  // a node's ranks follow each other
      const int node = node_of(cluster, group[i]);
      int ranks = 0;
      for (; i < group.size() && node_of(cluster, group[i]) == node; ++i) {
        ++ranks;
      }
      fewest = std::min(fewest, ranks);
      ++groups_on_node[static_cast<std::size_t>(node)];
    }
    const int level = level_between(cluster, group.front(), group.back());
    if (first || level > worst.level || (level == worst.level && fewest < worst.ranks_per_node)) {
      worst.level = level;
      worst.ranks_per_node = fewest;
    }
    worst.ranks = static_cast<int>(group.size());
    first = false;
  });
  worst.concurrent = *std::max_element(groups_on_node.begin(), groups_on_node.end());
  return worst;
}

}  // namespace shardwise
