#include "planner/microbatches.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

std::string to_string(StopReason reason) {
  constexpr const char* kNames[] = {"optimal", "feasible", "infeasible", "limit reached"};
  return kNames[static_cast<int>(reason)];
}

namespace planning {

std::vector<int> microbatch_counts(const PlanRequest& request) {
  if (request.batch < 1 || request.sequence < 1) {
    throw InputError("plan request",
                     fmt::format("expected a batch and a sequence of at least 1, got {} sequences "
                                 "of {} tokens",
                                 request.batch,
                                 request.sequence));
  }
  std::vector<int> counts = request.microbatch_counts;
  for (const int count : counts) {
    if (count < 1 || request.batch % count != 0) {
      throw InputError("plan request",
                       fmt::format("expected a number of micro-batches that divides the batch of "
                                   "{} sequences, got {}",
                                   request.batch,
                                   count));
    }
  }
  if (counts.empty()) {
    for (std::int64_t count = 1; count <= request.batch; ++count) {
      if (request.batch % count == 0) {
        counts.push_back(static_cast<int>(count));
      }
    }
  }
  std::sort(counts.begin(), counts.end());
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  return counts;
}

}  // namespace planning

}  // namespace shardwise
