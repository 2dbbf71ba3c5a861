// The best plan of each familiar family, so that a reader sees what the optimum gains.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "planner/deadline.h"
#include "planner/planner.h"

namespace shardwise::planning {

// Looks for them beside the search for the best plan of all: on a thread of its own, which starts
// at once, unless the request allows only one. All that it is given must outlive it.
class RunnerUpSearch {
 public:
  RunnerUpSearch(const PlanRequest& request,
                 const Cluster& cluster,
                 const CostTable& costs,
                 const Deadline& deadline);
  ~RunnerUpSearch();  // gives up what is not found
  RunnerUpSearch(const RunnerUpSearch&) = delete;
  RunnerUpSearch& operator=(const RunnerUpSearch&) = delete;

  // Does its part of what is left. By step time; families without a plan that fits are left out.
  std::vector<RunnerUp> take();

 private:
  struct Family {
    std::string name;
    std::function<PlanResult(const PlanRequest&)> find;
    std::optional<RunnerUp> best;
  };
  void add_family(const std::string& name, const std::function<void(PlanRequest&)>& narrow);
  void work(const std::atomic<bool>* stop);

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const Deadline deadline_;
  std::vector<Family> families_;
  std::atomic<std::size_t> next_{0};  // of families_, not yet begun
  std::atomic<bool> gives_up_{false};
  std::future<void> beside_;
};

// One sentence for the proof line.
std::string describe_space(const PlanRequest& request, const Cluster& cluster, int num_counts);

}  // namespace shardwise::planning
