// find_plan: the combination search over graphs of all micro-batch counts.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "core/stopwatch.h"
#include "planner/block_pool.h"
#include "planner/combination_search.h"
#include "planner/infeasible.h"
#include "planner/methods/alpa_plan.h"
#include "planner/methods/amp.h"
#include "planner/methods/galvatron.h"
#include "planner/methods/piper_plan.h"
#include "planner/methods/plan_space.h"
#include "planner/methods/uniap_plan.h"
#include "planner/microbatches.h"
#include "planner/model.h"
#include "planner/runner_ups.h"
#include "planner/space.h"

namespace shardwise {

namespace {

using planning::Deadline;
using planning::MicrobatchModel;

// A plan of the space and its step time.
struct KnownPlan {
  Plan plan;
  Picoseconds step_time{0};
};

class PlanSearch {
 public:
  // Looks for what is faster than `known`.
  PlanSearch(const PlanRequest& request,
             const Cluster& cluster,
             const CostTable& costs,
             const Deadline& deadline,
             planning::BlockPool& pool,
             planning::Effort effort,
             std::optional<KnownPlan> known)
      : request_(request),
        cluster_(cluster),
        costs_(costs),
        places_(cluster,
                planning::is_aligned(request.limits, cluster),
                planning::stage_sizes(
                    request.graph(request.batch), cluster, request.free_axes, request.limits)),
        pool_(pool),
        search_({request.schedules, 1, request.limits.max_stages, effort}, incumbent_),
        known_(std::move(known)) {
    incumbent_.deadline = deadline;
    incumbent_.gap = request.gap;
    incumbent_.progress = request.progress;
    if (known_) {
      incumbent_.step_time = known_->step_time.count;
      if (incumbent_.progress != nullptr) {
        incumbent_.progress->best = static_cast<double>(incumbent_.step_time);
      }
    }
  }

  PlanResult search() {
    const std::vector<int> counts = planning::microbatch_counts(request_);
    try {
      for (const int count : counts) {
        incumbent_.deadline.check();
        models_.push_back(std::make_unique<MicrobatchModel>(
            request_, cluster_, costs_, places_, pool_, incumbent_.deadline, count));
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
    if (!incumbent_.is_known()) {
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
    if (!incumbent_.plan) {
      result.plan = known_->plan;
      return result;
    }
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
  planning::BlockPool& pool_;
  planning::Incumbent incumbent_;
  std::vector<std::unique_ptr<MicrobatchModel>> models_;
  planning::CombinationSearch search_;
  const std::optional<KnownPlan> known_;
  bool knows_all_ = false;  // search_ has the whole space
};

// Interleaved plans whose chunks differ from each other are no folded chain (stage_search.h): they
// are in the space as uniform grids, and every one of those is priced here.
void consider_unlike_chunks(const PlanRequest& request,
                            const Cluster& cluster,
                            const CostTable& costs,
                            const Deadline& deadline,
                            PlanResult& result) {
  PlanRequest grids = request;
  grids.schedules = {Schedule::kInterleaved};
  grids.runner_ups = RunnerUps::kSkip;
  grids.progress = nullptr;
  grids.time_limit = Seconds(deadline.seconds_left());
  PlanResult best = find_megatron_plan(grids, cluster, costs);
  const bool is_whole =
      best.stop_reason == StopReason::kOptimal || best.stop_reason == StopReason::kInfeasible;
  const bool is_proved = is_whole && (result.stop_reason == StopReason::kOptimal ||
                                      result.stop_reason == StopReason::kInfeasible);
  if (best.plan && (!result.plan || best.step_time < result.step_time)) {
    result.lower_bound = result.stop_reason == StopReason::kInfeasible
                             ? best.step_time
                             : std::min(result.lower_bound, best.step_time);
    result.plan = std::move(best.plan);
    result.step_time = best.step_time;
    result.stop_reason = StopReason::kOptimal;
  }
  if (!is_whole) {
    result.lower_bound = Picoseconds(0);
  }
  if (!is_proved) {
    result.stop_reason = result.plan ? StopReason::kFeasible : StopReason::kLimitReached;
  }
}

// With two free axes a layer has ten thousand options: a glance at the same space with one comes to
// good plans much sooner, and what they beat need not be looked at.
std::optional<KnownPlan> glance_at_one_axis(const PlanRequest& request,
                                            const Cluster& cluster,
                                            const CostTable& costs,
                                            const Deadline& deadline,
                                            planning::BlockPool& pool) {
  if (request.free_axes < 2) {
    return std::nullopt;
  }
  PlanRequest glance = request;
  glance.free_axes = 1;
  glance.progress = nullptr;
  PlanResult result =
      PlanSearch(glance, cluster, costs, deadline, pool, planning::Effort::kGlance, std::nullopt)
          .search();
  if (!result.plan) {
    return std::nullopt;
  }
  return KnownPlan{std::move(*result.plan), result.step_time};
}

// What is left of a limit for plans of simpler spaces, should it end the search without proof.
double seconds_of_simpler_spaces(const PlanRequest& request) {
  return std::min(0.4 * request.time_limit.count, 5.0);
}

// The result of a search that a limit ended, at least as good as plans of simpler spaces.
class SimplerSpaces {
 public:
  SimplerSpaces(const PlanRequest& request,
                const Cluster& cluster,
                const CostTable& costs,
                const Deadline& deadline,
                PlanResult& result)
      : request_(request),
        simpler_(request),
        cluster_(cluster),
        costs_(costs),
        deadline_(deadline),
        result_(result) {
    simpler_.runner_ups = RunnerUps::kSkip;
    simpler_.progress = nullptr;
  }

  void search() {
    // The quickest first (docs/planner.md): the slower ones may find nothing in what is left.
    for (const auto find : {find_uniap_intra_plan,
                            find_galvatron_plan,
                            find_amp_plan,
                            find_uniap_plan,
                            find_piper_graph_plan,
                            find_uniap_inter_plan,
                            find_megatron_plan,
                            find_alpa_plan}) {
      if (deadline_.has_passed()) {
        return;
      }
      simpler_.time_limit = Seconds(deadline_.seconds_left());
      consider(find(simpler_, cluster_, costs_));
    }
  }

 private:
  void consider(PlanResult other) {
    if (!other.plan || !planning::is_in_space(*other.plan, request_, cluster_) ||
        (result_.plan && other.step_time >= result_.step_time)) {
      return;
    }
    result_.plan = std::move(other.plan);
    result_.step_time = other.step_time;
    const auto proved = static_cast<double>(result_.lower_bound.count) * (1 + request_.gap);
    result_.stop_reason = proved >= static_cast<double>(result_.step_time.count)
                              ? StopReason::kOptimal
                              : StopReason::kFeasible;
    result_.lower_bound = std::min(result_.lower_bound, result_.step_time);
  }

  const PlanRequest& request_;
  PlanRequest simpler_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const Deadline& deadline_;
  PlanResult& result_;
};

}  // namespace

PlanResult find_plan(const PlanRequest& request, const Cluster& cluster, const CostTable& costs) {
  const Stopwatch watch;
  const planning::Deadline deadline =
      planning::Deadline::after(request.time_limit.count, request.stop);
  const double limit = request.time_limit.count;
  const bool is_limited = limit < 1e9;  // deadline.h
  const planning::Deadline end_of_search = planning::Deadline::after(
      is_limited ? limit - seconds_of_simpler_spaces(request) : limit, request.stop);
  std::optional<planning::RunnerUpSearch> runner_ups;
  if (request.runner_ups == RunnerUps::kFind) {
    runner_ups.emplace(request, cluster, costs, deadline);
  }
  planning::BlockPool pool;
  PlanResult result = PlanSearch(request,
                                 cluster,
                                 costs,
                                 end_of_search,
                                 pool,
                                 planning::Effort::kProve,
                                 glance_at_one_axis(request, cluster, costs, end_of_search, pool))
                          .search();
  if (planning::has_unlike_chunks(request)) {
    consider_unlike_chunks(request, cluster, costs, deadline, result);
  }
  if (result.stop_reason == StopReason::kFeasible ||
      result.stop_reason == StopReason::kLimitReached) {
    SimplerSpaces(request, cluster, costs, deadline, result).search();
  }
  if (result.stop_reason == StopReason::kInfeasible && runner_ups) {
    runner_ups.reset();
    result.infeasibility = planning::explain_infeasible(request, cluster, costs, deadline);
  }
  if (result.plan && runner_ups) {
    result.runner_ups = runner_ups->take();
  }
  result.search_time = watch.elapsed();
  return result;
}

}  // namespace shardwise
