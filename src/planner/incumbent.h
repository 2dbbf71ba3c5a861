// The best plan found so far, shared by all parts of a search.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "planner/deadline.h"
#include "planner/planner.h"
#include "planner/problem.h"

namespace shardwise::planning {

struct Incumbent {
  // Not set while nothing beats `step_time`, which may be that of a plan found elsewhere.
  std::optional<PipelineSolution> plan;
  std::int64_t step_time = std::numeric_limits<std::int64_t>::max();  // ps
  double gap = 0;
  Deadline deadline;
  SearchProgress* progress = nullptr;

  bool is_known() const { return step_time < std::numeric_limits<std::int64_t>::max(); }

  // What a plan must be below to matter.
  double cutoff() const {
    return is_known() ? static_cast<double>(step_time) / (1 + gap)
                      : std::numeric_limits<double>::infinity();
  }

  void improve(PipelineSolution better, std::int64_t better_time) {
    plan = std::move(better);
    step_time = better_time;
    if (progress != nullptr) {
      progress->best = static_cast<double>(better_time);
    }
  }

  // Proved: no plan is faster than `bound`, but for this one.
  void report_bound(double bound) const {
    const double proved = is_known() ? std::min(bound, static_cast<double>(step_time)) : bound;
    if (progress != nullptr && std::isfinite(proved) && proved > progress->bound) {
      progress->bound = proved;
    }
  }
};

}  // namespace shardwise::planning
