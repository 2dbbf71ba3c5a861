// find_listed_plan: the combination search over lists.
#include "core/errors.h"
#include "planner/combination_search.h"
#include "planner/elimination.h"
#include "planner/listed_model.h"
#include "planner/listed_problem.h"

namespace shardwise {

ListedResult find_listed_plan(const ListedProblem& problem, const ListedLimits& limits) {
  planning::Incumbent incumbent;
  incumbent.deadline = planning::Deadline::after(limits.time_limit.count, limits.stop);
  incumbent.gap = limits.gap;
  planning::ListedModel model(problem, incumbent.deadline);
  planning::CombinationSearch search({problem.schedules, problem.min_stages, problem.max_stages},
                                     incumbent);
  ListedResult result;
  try {
    search.add(model);
    search.run();
  } catch (const planning::SearchStopped&) {
    // What was found and proved before stands.
  }
  const double bound = search.bound();
  if (!incumbent.plan) {
    const bool is_infeasible = bound == planning::kForbidden;
    result.stop_reason = is_infeasible ? StopReason::kInfeasible : StopReason::kLimitReached;
    result.lower_bound = Picoseconds(is_infeasible ? 0 : static_cast<std::int64_t>(bound));
    return result;
  }
  result.stop_reason = bound >= incumbent.cutoff() ? StopReason::kOptimal : StopReason::kFeasible;
  result.step_time = Picoseconds(incumbent.step_time);
  result.lower_bound = Picoseconds(
      static_cast<std::int64_t>(std::min(bound, static_cast<double>(incumbent.step_time))));
  result.plan = model.plan_of(*incumbent.plan);
  const ListedEvaluation evaluation = evaluate_listed(*result.plan, problem);
  SHARDWISE_CHECK(evaluation.step_time == result.step_time && evaluation.fits,
                  "search and formulas price a listed plan alike");
  return result;
}

}  // namespace shardwise
