// find_plan: the combination search over graphs of all micro-batch counts.
#include <chrono>
#include <memory>
#include <vector>

#include "core/errors.h"
#include "planner/combination_search.h"
#include "planner/infeasible.h"
#include "planner/microbatches.h"
#include "planner/model.h"
#include "planner/runner_ups.h"
#include "planner/space.h"

namespace shardwise {

namespace {

using planning::Deadline;
using planning::MicrobatchModel;

class PlanSearch {
 public:
  PlanSearch(const PlanRequest& request,
             const Cluster& cluster,
             const CostTable& costs,
             const Deadline& deadline)
      : request_(request),
        cluster_(cluster),
        costs_(costs),
        places_(cluster,
                planning::is_aligned(request.limits, cluster),
                planning::stage_sizes(
                    request.graph(request.batch), cluster, request.free_axes, request.limits)),
        search_({request.schedules, 1, request.limits.max_stages}, incumbent_) {
    incumbent_.deadline = deadline;
    incumbent_.gap = request.gap;
    incumbent_.progress = request.progress;
  }

  PlanResult search() {
    const std::vector<int> counts = planning::microbatch_counts(request_);
    try {
      for (const int count : counts) {
        incumbent_.deadline.check();
        models_.push_back(std::make_unique<MicrobatchModel>(
            request_, cluster_, costs_, places_, incumbent_.deadline, count));
        search_.add(*models_.back());
      }
      knows_all_ = true;
      search_.run();
    } catch (const planning::SearchStopped&) {
      // What was found and proved before stands.
    }
    PlanResult result = outcome();
    result.space = planning::describe_space(request_, cluster_, static_cast<int>(counts.size()));
    return result;
  }

 private:
  PlanResult outcome() {
    PlanResult result;
    double bound = knows_all_ ? search_.bound() : 0;
    if (!incumbent_.plan) {
      const bool is_infeasible = bound == planning::kForbidden;
      result.stop_reason = is_infeasible ? StopReason::kInfeasible : StopReason::kLimitReached;
      result.lower_bound = Picoseconds(is_infeasible ? 0 : static_cast<std::int64_t>(bound));
      return result;
    }
    result.stop_reason =
        bound >= incumbent_.cutoff() ? StopReason::kOptimal : StopReason::kFeasible;
    bound = std::min(bound, static_cast<double>(incumbent_.step_time));
    result.lower_bound = Picoseconds(static_cast<std::int64_t>(bound));
    result.step_time = Picoseconds(incumbent_.step_time);
    for (const std::unique_ptr<MicrobatchModel>& model : models_) {
      if (model.get() == incumbent_.plan->problem) {
        result.plan = model->plan_of(*incumbent_.plan);
        const Evaluation evaluation = evaluate(*result.plan, model->graph(), cluster_, costs_);
        SHARDWISE_CHECK(evaluation.step_time == result.step_time,
                        "planner and evaluator price a plan alike");
        SHARDWISE_CHECK(evaluation.fits(), "planner and evaluator account memory alike");
      }
    }
    return result;
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const planning::StagePlaces places_;
  planning::Incumbent incumbent_;
  std::vector<std::unique_ptr<MicrobatchModel>> models_;
  planning::CombinationSearch search_;
  bool knows_all_ = false;  // search_ has the whole space
};

}  // namespace

PlanResult find_plan(const PlanRequest& request, const Cluster& cluster, const CostTable& costs) {
  const auto begin = std::chrono::steady_clock::now();
  const planning::Deadline deadline =
      planning::Deadline::after(request.time_limit.count, request.stop);
  PlanResult result = PlanSearch(request, cluster, costs, deadline).search();
  if (result.stop_reason == StopReason::kInfeasible && request.runner_ups == RunnerUps::kFind) {
    result.infeasibility = planning::explain_infeasible(request, cluster, costs, deadline);
  }
  if (result.plan && request.runner_ups == RunnerUps::kFind) {
    result.runner_ups = planning::find_runner_ups(request, cluster, costs, deadline);
  }
  result.search_time =
      Seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return result;
}

}  // namespace shardwise
