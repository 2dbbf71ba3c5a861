#include "planner/galvatron_search.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/errors.h"
#include "planner/count_knapsack.h"

namespace shardwise {

namespace {

using planning::CountGroup;
using planning::CountOption;
using planning::CountPiece;
using planning::CountProblem;
using planning::CountSolution;

// The strategies of one layer type on one stage, without those that another beats in everything.
struct TypeOptions {
  std::vector<CountOption> options;
  std::vector<int> strategies;  // of each option: index into GalvatronTask::layers
};

TypeOptions undominated(const GalvatronTask& task,
                        const GalvatronCosts& costs,
                        int type,
                        int stage) {
  TypeOptions all;
  for (std::size_t k = 0; k < task.layers.size(); ++k) {
    const GalvatronTime time = costs.layer_time(type, task.layers[k]);
    all.options.push_back({time.without_sync,
                           time.with_sync - time.without_sync,
                           costs.layer_memory_mb(type, task.layers[k], stage)});
    all.strategies.push_back(static_cast<int>(k));
  }
  TypeOptions kept;
  for (std::size_t a = 0; a < all.options.size(); ++a) {
    const CountOption& mine = all.options[a];
    bool is_beaten = false;
    for (std::size_t b = 0; b < all.options.size() && !is_beaten; ++b) {
      const CountOption& other = all.options[b];
      const bool is_as_good = other.c <= mine.c && other.d <= mine.d && other.memory <= mine.memory;
      const bool is_equal = other.c == mine.c && other.d == mine.d && other.memory == mine.memory;
      is_beaten = a != b && is_as_good && (!is_equal || b < a);
    }
    if (!is_beaten) {
      kept.options.push_back(mine);
      kept.strategies.push_back(all.strategies[a]);
    }
  }
  return kept;
}

// One task with its stages as knapsacks that only lack the memory left beside the ends.
class TaskSearch {
 public:
  TaskSearch(const GalvatronJob& job, const GalvatronTask& task)
      : job_(&job),
        task_(&task),
        costs_(job, task.chunks, static_cast<int>(task.stage_layers.size())) {
    const std::size_t pipeline = task.stage_layers.size();
    int layer = 0;
    for (std::size_t stage = 0; stage < pipeline; ++stage) {
      std::vector<int> sizes(job.layers.size(), 0);
      for (int k = 0; k < task.stage_layers[stage]; ++k, ++layer) {
        ++sizes[static_cast<std::size_t>(job.type_of_layer(layer))];
      }
      CountProblem problem;
      problem.pieces = {CountPiece{}};
      std::vector<std::vector<int>> strategies;
      for (std::size_t type = 0; type < sizes.size(); ++type) {
        TypeOptions options;
        if (sizes[type] > 0) {
          options = undominated(task, costs_, static_cast<int>(type), static_cast<int>(stage));
        }
        problem.groups.push_back({sizes[type], options.options});
        strategies.push_back(std::move(options.strategies));
      }
      stages_.push_back(std::move(problem));
      strategies_.push_back(std::move(strategies));
    }
    middle_bounds_.resize(pipeline);
    for (std::size_t stage = 1; stage + 1 < pipeline; ++stage) {
      middle_bounds_[stage] = planning::count_bound(with_budget(stage, task.ends.front()));
    }
  }

  // No plan of the task with these ends is faster; nothing: none fits.
  std::optional<double> bound(const GalvatronStrategy& ends) const {
    std::vector<double> compute(stages_.size(), 0);
    const GalvatronEndsTime time = costs_.ends_time(ends);
    for (std::size_t stage = 1; stage < stages_.size(); ++stage) {
      const bool is_last = stage + 1 == stages_.size();
      const auto least =
          is_last ? planning::count_bound(with_budget(stage, ends)) : middle_bounds_[stage];
      if (!least) {
        return std::nullopt;
      }
      compute[stage] = *least + (is_last ? time.last : 0);
    }
    return planning::count_bound(first_stage(ends, time, compute));
  }

  struct Found {
    GalvatronPlan plan;
    double step_time = 0;
    double lower_bound = 0;
  };

  // The best plan with these ends whose bound is below `cutoff`.
  std::optional<Found> search(const GalvatronStrategy& ends, double cutoff) const {
    const GalvatronEndsTime time = costs_.ends_time(ends);
    std::vector<double> compute(stages_.size(), 0);
    std::vector<std::optional<CountSolution>> solutions(stages_.size());
    for (std::size_t stage = 1; stage < stages_.size(); ++stage) {
      solutions[stage] =
          planning::solve_counts(with_budget(stage, ends), std::numeric_limits<double>::max());
      if (!solutions[stage]) {
        return std::nullopt;
      }
      compute[stage] = solutions[stage]->c + (stage + 1 == stages_.size() ? time.last : 0);
    }
    solutions[0] = planning::solve_counts(first_stage(ends, time, compute), cutoff);
    if (!solutions[0]) {
      return std::nullopt;
    }
    Found found;
    found.lower_bound = solutions[0]->value;
    found.plan = plan_of(ends, solutions);
    found.step_time = evaluate_galvatron(*job_, found.plan).step_time.count;
    return found;
  }

 private:
  CountProblem with_budget(std::size_t stage, const GalvatronStrategy& ends) const {
    CountProblem problem = stages_[stage];
    problem.budget = job_->memory_limit_mb() -
                     costs_.ends_memory_mb(ends, static_cast<int>(stage)) -
                     costs_.buffer_mb(task_->buffer_degree);
    return problem;
  }

  // The objective as a function of the first stage's layers, `compute` holding the other stages:
  // linear pieces of the pipeline time, each with and without its exposed synchronisation.
  CountProblem first_stage(const GalvatronStrategy& ends,
                           const GalvatronEndsTime& time,
                           const std::vector<double>& compute) const {
    CountProblem problem = with_budget(0, ends);
    problem.pieces.clear();
    const int stages = static_cast<int>(stages_.size());
    const int chunks = task_->chunks;
    const double ends_here = time.first + (stages == 1 ? time.last : 0);
    const double others = std::accumulate(compute.begin() + 1, compute.end(), 0.0);
    const auto add = [&](double slope, double constant) {
      const double base = constant + slope * ends_here;
      problem.pieces.push_back({slope, 0, base});
      problem.pieces.push_back({slope, 1, base - ends_here});
    };
    if (job_->version == GalvatronVersion::kV21) {
      const double periods = chunks - 1 + stages;
      add(periods, 0);
      if (stages > 1) {
        add(0, periods * *std::max_element(compute.begin() + 1, compute.end()));
      }
    } else if (stages == 1) {
      add(chunks, 0);
    } else {
      const double own = std::max(0, chunks + 1 - stages);
      add(1, others + (chunks - 1) * compute.back());
      add(std::min(stages, chunks) - 1 + own, 0);
      add(own, others);
    }
    return problem;
  }

  GalvatronPlan plan_of(const GalvatronStrategy& ends,
                        const std::vector<std::optional<CountSolution>>& solutions) const {
    GalvatronPlan plan;
    plan.chunks = task_->chunks;
    plan.stage_layers = task_->stage_layers;
    plan.ends = ends;
    plan.buffer_degree = task_->buffer_degree;
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      for (std::size_t type = 0; type < strategies_[stage].size(); ++type) {
        for (std::size_t k = 0; k < strategies_[stage][type].size(); ++k) {
          const int count = solutions[stage]->counts[type][k];
          const auto& strategy =
              task_->layers[static_cast<std::size_t>(strategies_[stage][type][k])];
          plan.layers.insert(plan.layers.end(), static_cast<std::size_t>(count), strategy);
        }
      }
    }
    return plan;
  }

  const GalvatronJob* job_;
  const GalvatronTask* task_;
  GalvatronCosts costs_;
  std::vector<CountProblem> stages_;
  std::vector<std::vector<std::vector<int>>> strategies_;  // [stage][type][option]
  std::vector<std::optional<double>> middle_bounds_;       // the same whatever the ends do
};

struct Combination {
  double bound = 0;
  std::size_t task = 0;
  std::size_t ends = 0;
};

}  // namespace

GalvatronResult find_galvatron_optimum(const GalvatronJob& job) {
  if (job.batch < 1 || job.devices < 1 || job.num_layers() < 1 ||
      job.layers.size() != job.model.layer_types.size()) {
    throw InputError("Galvatron job",
                     "expected a batch, devices and layers of every profiled type of at least one");
  }
  const std::vector<GalvatronTask> tasks = galvatron_tasks(job);
  std::vector<TaskSearch> searches;
  searches.reserve(tasks.size());
  std::vector<Combination> combinations;
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    searches.emplace_back(job, tasks[t]);
    for (std::size_t e = 0; e < tasks[t].ends.size(); ++e) {
      if (const auto bound = searches.back().bound(tasks[t].ends[e])) {
        combinations.push_back({*bound, t, e});
      }
    }
  }
  std::stable_sort(combinations.begin(),
                   combinations.end(),
                   [](const Combination& a, const Combination& b) { return a.bound < b.bound; });

  GalvatronResult result;
  result.tasks = static_cast<int>(tasks.size());
  double best = std::numeric_limits<double>::max();
  double lower = std::numeric_limits<double>::max();
  for (const Combination& combination : combinations) {
    if (combination.bound >= best) {
      break;
    }
    const auto& ends = tasks[combination.task].ends[combination.ends];
    if (auto found = searches[combination.task].search(ends, best)) {
      lower = std::min(lower, found->lower_bound);
      if (found->step_time < best) {
        best = found->step_time;
        result.plan = std::move(found->plan);
      }
    }
  }
  if (result.plan) {
    constexpr double kRounding = 1e-12;  // of sums of doubles
    result.step_time = Seconds(best);
    result.lower_bound = Seconds(std::min(lower, best));
    const bool is_proved = result.lower_bound.count >= best * (1 - kRounding);
    result.stop_reason = is_proved ? StopReason::kOptimal : StopReason::kFeasible;
  }
  return result;
}

}  // namespace shardwise
