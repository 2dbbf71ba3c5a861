// The search outside of a pipeline: micro-batch counts, schedules, numbers of stages and chunks.
// One incumbent is shared; the combination with the least bound is looked at next, until no bound
// is below the incumbent.
#pragma once

#include <memory>
#include <vector>

#include "planner/incumbent.h"
#include "planner/pipeline_search.h"

namespace shardwise::planning {

// kProve: until no bound is below the incumbent. kGlance: without a combination's dearer steps,
// sharper bounds by multipliers and exact search: good plans soon, and bounds.
enum class Effort { kProve, kGlance };

struct CombinationLimits {
  std::vector<Schedule> schedules;  // empty: all
  int min_stages = 1;
  int max_stages = 0;  // 0: no limit
  Effort effort = Effort::kProve;
};

class CombinationSearch {
 public:
  CombinationSearch(const CombinationLimits& limits, Incumbent& incumbent);
  ~CombinationSearch();
  CombinationSearch(const CombinationSearch&) = delete;
  CombinationSearch& operator=(const CombinationSearch&) = delete;

  // Adds all combinations of a micro-batch count. `problem` must outlive the search.
  void add(Problem& problem);
  // Improves the incumbent until nothing is better, or the effort is spent. Throws SearchStopped.
  void run();
  // Proved: no plan is faster, but for the incumbent. Infinite if nothing fits.
  double bound() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shardwise::planning
