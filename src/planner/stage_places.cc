#include "planner/stage_places.h"

#include <numeric>

#include "planner/space.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

template <typename StartsOf>
void StagePlaces::add_states(const std::vector<std::vector<int>>& sizes, StartsOf starts_of) {
  // A state's number: digits of used devices by type, the first type's runs fastest.
  int num_states = 1;
  std::vector<int> strides;
  for (const std::vector<int>& devices : devices_) {
    num_devices_ += static_cast<int>(devices.size());
    strides.push_back(num_states);
    num_states *= static_cast<int>(devices.size()) + 1;
  }
  steps_.resize(at(num_states));
  for (int state = 0; state < num_states; ++state) {
    int total = 0;
    for (int type = 0; type < static_cast<int>(devices_.size()); ++type) {
      const int count = static_cast<int>(devices_[at(type)].size());
      const int used = state / strides[at(type)] % (count + 1);
      total += used;
      for (const int size : sizes[at(type)]) {
        if (size > count - used) {
          continue;
        }
        for (const int start : starts_of(type, used, size)) {
          steps_[at(state)].push_back(
              {{type, start, size}, state + (count - start - used) * strides[at(type)]});
        }
      }
    }
    num_used_.push_back(total);
  }
}

StagePlaces::StagePlaces(const Cluster& cluster) : devices_(devices_by_type(cluster)) {
  std::vector<std::vector<int>> sizes;
  for (const std::vector<int>& devices : devices_) {
    sizes.emplace_back(devices.size());
    std::iota(sizes.back().begin(), sizes.back().end(), 1);
  }
  add_states(sizes, [&](int type, int used, int size) {
    return places_for(cluster, devices_[at(type)], used, size);
  });
}

StagePlaces::StagePlaces(const std::vector<int>& counts,
                         const std::vector<std::vector<int>>& sizes) {
  int next = 0;
  for (const int count : counts) {
    devices_.emplace_back(at(count));
    std::iota(devices_.back().begin(), devices_.back().end(), next);
    next += count;
  }
  add_states(sizes, [&](int type, int used, int size) {
    return std::vector<int>{counts[at(type)] - used - size};
  });
}

}  // namespace shardwise::planning
