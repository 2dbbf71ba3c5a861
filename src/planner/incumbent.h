// The best plan found so far, shared by all parts of a search.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>

#include "graph/plan.h"

namespace shardwise::planning {

struct Incumbent {
  std::optional<Plan> plan;
  std::int64_t step_time = std::numeric_limits<std::int64_t>::max();  // ps
  double gap = 0;
  std::chrono::steady_clock::time_point deadline;

  // What a plan must be below to matter.
  double cutoff() const {
    return plan ? static_cast<double>(step_time) / (1 + gap)
                : std::numeric_limits<double>::infinity();
  }
  bool is_late() const { return std::chrono::steady_clock::now() > deadline; }
};

}  // namespace shardwise::planning
