#include "graph/cluster.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

int Cluster::num_devices() const {
  int count = 0;
  for (const DeviceGroup& group : groups) {
    count += group.count;
  }
  return count;
}

int Cluster::type_of(int device) const {
  int end = 0;
  for (const DeviceGroup& group : groups) {
    end += group.count;
    if (device < end) {
      return group.type;
    }
  }
  SHARDWISE_CHECK(false, "device outside of the cluster");
}

int level_between(const Cluster& cluster, int device_a, int device_b) {
  const int last = static_cast<int>(cluster.levels.size()) - 1;
  for (int level = 0; level < last; ++level) {
    const int size = cluster.levels[static_cast<std::size_t>(level)].size;
    device_a /= size;
    device_b /= size;
    if (device_a == device_b) {
      return level;
    }
  }
  return std::max(last, 0);
}

int level_spanned(const Cluster& cluster, const std::vector<int>& devices) {
  int level = 0;
  for (const int device : devices) {
    level = std::max(level, level_between(cluster, devices.front(), device));
  }
  return level;
}

}  // namespace shardwise
