#include "planner/runner_ups.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "planner/space.h"

namespace shardwise::planning {

namespace {

struct Family {
  std::string name;
  std::function<void(PlanRequest&)> narrow;
};

std::vector<Family> families() {
  const auto whole_model_on_data = [](PlanRequest& request, StateSharding sharding) {
    request.free_axes = 0;
    request.limits.max_stages = 1;
    request.limits.state_shardings = {sharding};
  };
  return {
      {"data", [=](PlanRequest& r) { whole_model_on_data(r, StateSharding::kNone); }},
      {"zero 1", [=](PlanRequest& r) { whole_model_on_data(r, StateSharding::kOptimizer); }},
      {"zero 2", [=](PlanRequest& r) { whole_model_on_data(r, StateSharding::kGradients); }},
      {"zero 3", [=](PlanRequest& r) { whole_model_on_data(r, StateSharding::kParameters); }},
      {"tensor",
       [](PlanRequest& r) {
         r.free_axes = std::min(r.free_axes, 1);
         r.limits.max_stages = 1;
         r.limits.max_data_degree = 1;
         r.limits.batch_on_free_axes = SpaceLimits::BatchOnFreeAxes::kForbidden;
       }},
      {"pipeline", [](PlanRequest& r) { r.limits.max_stage_devices = 1; }},
  };
}

}  // namespace

std::vector<RunnerUp> find_runner_ups(const PlanRequest& request,
                                      const Cluster& cluster,
                                      const CostTable& costs,
                                      const Deadline& deadline) {
  std::vector<RunnerUp> runner_ups;
  const auto add = [&](const std::string& name, PlanResult result) {
    if (result.plan) {
      runner_ups.push_back({name, std::move(*result.plan), result.step_time});
    }
  };
  for (const Family& family : families()) {
    PlanRequest narrowed = request;
    narrowed.runner_ups = RunnerUps::kSkip;
    narrowed.progress = nullptr;
    // A table for people: within a thousandth is close enough, and quickly found.
    narrowed.gap = std::max(request.gap, 1e-3);
    narrowed.time_limit = Seconds(std::min(deadline.seconds_left(), 1.0));
    if (deadline.has_passed()) {
      break;
    }
    family.narrow(narrowed);
    add(family.name, find_plan(narrowed, cluster, costs));
  }
  PlanRequest uniform = request;
  uniform.time_limit = Seconds(deadline.seconds_left());
  add("uniform grid", find_megatron_plan(uniform, cluster, costs));
  std::stable_sort(runner_ups.begin(), runner_ups.end(), [](const RunnerUp& a, const RunnerUp& b) {
    return a.step_time < b.step_time;
  });
  return runner_ups;
}

namespace {

std::string describe(const Constraints& constraints) {
  if (constraints.empty()) {
    return "";
  }
  std::string texts;
  for (const Constraint& constraint : constraints) {
    texts += (texts.empty() ? "" : ", ") + constraint.text;
  }
  return "; constraints: " + texts;
}

}  // namespace

std::string describe_space(const PlanRequest& request, const Cluster& cluster, int num_counts) {
  return fmt::format(
      "{} devices, {} micro-batch count{}, every layer split, {}, {} free mesh ax{} "
      "with a choice per op, state sharding and recomputation per layer{}{}",
      cluster.num_devices(),
      num_counts,
      num_counts == 1 ? "" : "s",
      is_aligned(request.limits, cluster)
          ? "stages of whole nodes or even parts of one, free axes without padding"
          : "every stage size",
      request.free_axes,
      request.free_axes == 1 ? "is" : "es",
      describe(request.constraints),
      has_unlike_chunks(request) ? "; interleaved schedules whose chunks differ: uniform grids"
                                 : "");
}

}  // namespace shardwise::planning
