// Where the stages of a pipeline may stand: places on devices, and which devices are taken.
#pragma once

#include <compare>
#include <utility>
#include <vector>

#include "graph/cluster.h"

namespace shardwise::planning {

// Devices [start, start + size) of a type's list (space.h: devices_by_type).
struct StagePlace {
  int type = 0;
  int start = 0;
  int size = 0;

  auto operator<=>(const StagePlace&) const = default;
};

// Which devices are taken, as one number: the last ones of each type's list. Stages are placed from
// the last to the first, each right before those that are taken (space.h: places_for).
class StagePlaces {
 public:
  struct Step {
    StagePlace place;
    int used = 0;  // afterwards
  };

  // `aligned`: space.h. `is_size[n]`: whether a stage may have n devices.
  StagePlaces(const Cluster& cluster, bool aligned, const std::vector<bool>& is_size);
  // Devices that only their number tells apart: counts[type] of them, stages of sizes[type].
  StagePlaces(const std::vector<int>& counts, const std::vector<std::vector<int>>& sizes);

  const std::vector<std::vector<int>>& devices() const { return devices_; }  // by type
  int num_states() const { return static_cast<int>(steps_.size()); }         // state 0: none taken
  const std::vector<Step>& steps(int used) const { return steps_[static_cast<std::size_t>(used)]; }
  int num_used(int used) const { return num_used_[static_cast<std::size_t>(used)]; }
  int num_free(int used) const { return num_devices_ - num_used(used); }
  bool is_aligned() const { return aligned_; }

  // One place for all that the network cannot tell apart, and one pair for all such pairs.
  StagePlace name_of(const StagePlace& place) const;
  std::pair<StagePlace, StagePlace> names_of(const StagePlace& a, const StagePlace& b) const;

 private:
  // starts_of(type, used of that type, size): where stages may start.
  template <typename StartsOf>
  void add_states(const std::vector<std::vector<int>>& sizes, StartsOf starts_of);

  int num_devices_ = 0;
  bool aligned_ = false;
  // Moving all devices by so many leaves every pair of them at the same level of the network; 0: no
  // such number.
  int period_ = 1;
  std::vector<std::vector<int>> devices_;
  std::vector<std::vector<Step>> steps_;
  std::vector<int> num_used_;
};

}  // namespace shardwise::planning
