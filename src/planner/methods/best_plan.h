// What the searches of other planners share: they judge plans, keep the best one that fits, and end
// at a deadline.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "core/stopwatch.h"
#include "cost/evaluator.h"
#include "planner/deadline.h"
#include "planner/methods/plan_space.h"
#include "planner/planner.h"

namespace shardwise::planning {

class BestPlan {
 public:
  // The request's deadline runs from here on. Keeps references to both.
  BestPlan(const PlanRequest& request, const Cluster& cluster)
      : request_(request),
        cluster_(cluster),
        deadline_(Deadline::after(request.time_limit.count, request.stop)) {}

  const Deadline& deadline() const { return deadline_; }
  bool allows(Schedule schedule) const { return planning::allows(request_.schedules, schedule); }
  // Step time of the best plan so far; more than any time if there is none.
  Picoseconds cutoff() const { return result_.plan ? result_.step_time : Picoseconds(INT64_MAX); }

  // Evaluates a valid plan and keeps it if it is the best one that fits, lies in the space of
  // find_plan and keeps to the constraints. Throws SearchStopped after the deadline.
  Evaluation judge(const Plan& plan, const Graph& graph, Evaluator& evaluator) {
    if (deadline_.has_passed()) {
      throw SearchStopped{};
    }
    Evaluation evaluation = evaluator.evaluate(plan);
    ++judged_;
    if (evaluation.fits() && evaluation.step_time < cutoff() &&
        is_in_space(plan, request_, cluster_) &&
        constraint_violations(request_.constraints, plan, graph).empty()) {
      result_.plan = plan;
      result_.step_time = evaluation.step_time;
    }
    return evaluation;
  }

  // Runs `search` to its end or to the deadline. `what` begins the line about the space.
  PlanResult run(const std::function<void()>& search, const std::string& what) {
    const Stopwatch watch;
    bool is_whole = true;
    try {
      search();
    } catch (const SearchStopped&) {
      is_whole = false;
    }
    if (result_.plan) {
      result_.stop_reason = is_whole ? StopReason::kOptimal : StopReason::kFeasible;
    } else {
      result_.stop_reason = is_whole ? StopReason::kInfeasible : StopReason::kLimitReached;
    }
    result_.lower_bound = is_whole ? result_.step_time : Picoseconds(0);
    result_.space = what + ", " + std::to_string(judged_) + " plans evaluated";
    result_.search_time = watch.elapsed();
    return std::move(result_);
  }

 private:
  const PlanRequest& request_;
  const Cluster& cluster_;
  const Deadline deadline_;
  PlanResult result_;
  int judged_ = 0;
};

}  // namespace shardwise::planning
