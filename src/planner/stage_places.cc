#include "planner/stage_places.h"

#include <algorithm>
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

StagePlaces::StagePlaces(const Cluster& cluster, bool aligned, const std::vector<bool>& is_size)
    : aligned_(aligned), devices_(devices_by_type(cluster)) {
  for (std::size_t level = 0; level + 1 < cluster.levels.size(); ++level) {
    period_ *= std::max(cluster.levels[level].size, 1);
  }
  if (cluster.levels.size() == 1 && cluster.num_devices() > cluster.levels[0].size) {
    period_ = 0;
  }
  for (const std::vector<int>& devices : devices_) {
    const bool is_run = !devices.empty() &&
                        devices.back() - devices.front() + 1 == static_cast<int>(devices.size());
    period_ = is_run ? period_ : 0;
  }

  std::vector<std::vector<int>> sizes;
  for (const std::vector<int>& devices : devices_) {
    sizes.emplace_back();
    for (std::size_t size = 1; size <= devices.size(); ++size) {
      if (is_size[size]) {
        sizes.back().push_back(static_cast<int>(size));
      }
    }
  }
  add_states(sizes, [&](int type, int used, int size) {
    return places_for(cluster, devices_[at(type)], used, size, aligned_);
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

StagePlace StagePlaces::name_of(const StagePlace& place) const {
  return period_ == 0 ? place : StagePlace{place.type, place.start % period_, place.size};
}

// Devices of a type are numbered in one run, so both places move by the same number.
std::pair<StagePlace, StagePlace> StagePlaces::names_of(const StagePlace& a,
                                                        const StagePlace& b) const {
  if (period_ == 0) {
    return {a, b};
  }
  const int shift = std::min(a.start, b.start) / period_ * period_;
  const auto moved = [&](const StagePlace& place) {
    return StagePlace{place.type, place.start - shift, place.size};
  };
  return {moved(a), moved(b)};
}

}  // namespace shardwise::planning
