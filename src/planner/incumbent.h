// The best plan found so far, shared by all parts of a search.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

#include "planner/deadline.h"
#include "planner/problem.h"

namespace shardwise::planning {

struct Incumbent {
  std::optional<PipelineSolution> plan;
  std::int64_t step_time = std::numeric_limits<std::int64_t>::max();  // ps
  double gap = 0;
  Deadline deadline;

  // What a plan must be below to matter.
  double cutoff() const {
    return plan ? static_cast<double>(step_time) / (1 + gap)
                : std::numeric_limits<double>::infinity();
  }
};

}  // namespace shardwise::planning
