#include "planner/runner_ups.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "planner/space.h"

namespace shardwise::planning {

namespace {

void keep_whole_model_on_data(PlanRequest& request, StateSharding sharding) {
  request.free_axes = 0;
  request.limits.max_stages = 1;
  request.limits.state_shardings = {sharding};
}

}  // namespace

RunnerUpSearch::RunnerUpSearch(const PlanRequest& request,
                               const Cluster& cluster,
                               const CostTable& costs,
                               const Deadline& deadline)
    : request_(request), cluster_(cluster), costs_(costs), deadline_(deadline) {
  // What takes longest first.
  families_.push_back(
      {"uniform grid",
       [this](const PlanRequest& uniform) { return find_megatron_plan(uniform, cluster_, costs_); },
       std::nullopt});
  add_family("data", [](PlanRequest& r) { keep_whole_model_on_data(r, StateSharding::kNone); });
  add_family("zero 1",
             [](PlanRequest& r) { keep_whole_model_on_data(r, StateSharding::kOptimizer); });
  add_family("zero 2",
             [](PlanRequest& r) { keep_whole_model_on_data(r, StateSharding::kGradients); });
  add_family("zero 3",
             [](PlanRequest& r) { keep_whole_model_on_data(r, StateSharding::kParameters); });
  add_family("tensor", [](PlanRequest& r) {
    r.free_axes = std::min(r.free_axes, 1);
    r.limits.max_stages = 1;
    r.limits.max_data_degree = 1;
    r.limits.batch_on_free_axes = SpaceLimits::BatchOnFreeAxes::kForbidden;
  });
  add_family("pipeline", [](PlanRequest& r) { r.limits.max_stage_devices = 1; });
  if (request.threads != 1) {
    beside_ = std::async(std::launch::async, [this] { work(&gives_up_); });
  }
}

RunnerUpSearch::~RunnerUpSearch() { gives_up_ = true; }

void RunnerUpSearch::add_family(const std::string& name,
                                const std::function<void(PlanRequest&)>& narrow) {
  families_.push_back({name,
                       [this, narrow](const PlanRequest& request) {
                         PlanRequest narrowed = request;
                         // A table for people: within a thousandth is close enough, and quickly
                         // found.
                         narrowed.gap = std::max(request.gap, 1e-3);
                         narrowed.time_limit = Seconds(std::min(request.time_limit.count, 1.0));
                         narrow(narrowed);
                         return find_plan(narrowed, cluster_, costs_);
                       },
                       std::nullopt});
}

void RunnerUpSearch::work(const std::atomic<bool>* stop) {
  PlanRequest request = request_;
  request.runner_ups = RunnerUps::kSkip;
  request.progress = nullptr;
  request.stop = stop;
  for (std::size_t i = next_++; i < families_.size(); i = next_++) {
    if (deadline_.has_passed()) {
      return;
    }
    request.time_limit = Seconds(deadline_.seconds_left());
    PlanResult result = families_[i].find(request);
    if (result.plan) {
      families_[i].best = RunnerUp{families_[i].name, std::move(*result.plan), result.step_time};
    }
  }
}

std::vector<RunnerUp> RunnerUpSearch::take() {
  work(request_.stop);
  constexpr std::chrono::milliseconds kMoment(20);
  while (beside_.valid() && beside_.wait_for(kMoment) != std::future_status::ready) {
    gives_up_ = gives_up_ || (request_.stop != nullptr && *request_.stop);
  }
  if (beside_.valid()) {
    beside_.get();
  }
  std::vector<RunnerUp> runner_ups;
  std::rotate(families_.begin(), families_.begin() + 1, families_.end());  // ties: grids come last
  for (Family& family : families_) {
    if (family.best) {
      runner_ups.push_back(std::move(*family.best));
    }
  }
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
