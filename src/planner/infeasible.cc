// How: the same search with more and more memory on every device until something fits, then halving
// between the last that did not and the first that did. The plan found there is the one that comes
// nearest to fitting; its fullest stage, held against the real limit, says what is missing.
#include "planner/infeasible.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace shardwise::planning {

namespace {

constexpr double kMostMemory = 1 << 20;  // times what there is
constexpr int kHalvings = 5;             // memory to within 3 % of the last doubling
constexpr Seconds kTimeOfOneSearch{1};

Cluster with_memory(Cluster cluster, double factor) {
  for (DeviceType& type : cluster.types) {
    type.memory = Bytes(std::llround(static_cast<double>(type.memory.count) * factor));
  }
  return cluster;
}

class MemorySearch {
 public:
  MemorySearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request), cluster_(cluster), costs_(costs) {
    request_.runner_ups = RunnerUps::kSkip;
    request_.time_limit = kTimeOfOneSearch;
  }

  // Least factor found with a plan that fits, and that plan.
  std::optional<std::pair<double, Plan>> least_memory() {
    double fits = 1;
    std::optional<Plan> plan;
    while (!plan) {
      fits *= 2;
      if (fits > kMostMemory) {
        return std::nullopt;
      }
      plan = plan_with(fits);
    }
    double too_small = fits / 2;
    for (int i = 0; i < kHalvings; ++i) {
      const double middle = (too_small + fits) / 2;
      if (std::optional<Plan> better = plan_with(middle)) {
        plan = std::move(better);
        fits = middle;
      } else {
        too_small = middle;
      }
    }
    return std::make_pair(fits, *plan);
  }

 private:
  std::optional<Plan> plan_with(double factor) {
    return find_plan(request_, with_memory(cluster_, factor), costs_).plan;
  }

  PlanRequest request_;
  const Cluster& cluster_;
  const CostTable& costs_;
};

}  // namespace

std::optional<Infeasibility> explain_infeasible(const PlanRequest& request,
                                                const Cluster& cluster,
                                                const CostTable& costs) {
  const auto found = MemorySearch(request, cluster, costs).least_memory();
  if (!found) {
    return std::nullopt;
  }
  const Plan& plan = found->second;
  const Evaluation evaluation = evaluate(plan, request.graph(plan.microbatch()), cluster, costs);
  std::size_t worst = 0;
  const auto excess = [&](std::size_t stage) {
    return evaluation.stage_memory[stage].total() - evaluation.stage_memory[stage].limit;
  };
  for (std::size_t stage = 1; stage < evaluation.stage_memory.size(); ++stage) {
    worst = excess(stage) > excess(worst) ? stage : worst;
  }
  const StagePlan& stage = plan.stages[worst];
  Infeasibility infeasibility;
  infeasibility.device = stage.devices.front();
  infeasibility.memory = evaluation.stage_memory[worst];
  infeasibility.first_layer = stage.chunks.front().first_layer;
  infeasibility.end_layer = stage.chunks.front().end_layer();
  infeasibility.would_fit = fmt::format("{} more memory on each device ({} instead of {})",
                                        format_bytes(excess(worst)),
                                        format_bytes(infeasibility.memory.total()),
                                        format_bytes(infeasibility.memory.limit));
  return infeasibility;
}

}  // namespace shardwise::planning
