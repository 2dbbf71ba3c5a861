#include "planner/methods/alpa_plan.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "cost/stage_prices.h"
#include "planner/block_pool.h"
#include "planner/methods/alpa.h"
#include "planner/methods/best_plan.h"
#include "planner/microbatches.h"
#include "planner/model.h"

namespace shardwise {

namespace {

using planning::BestPlan;
using planning::BlockBound;
using planning::BlockOptions;
using planning::MicrobatchModel;
using planning::Option;
using planning::TieCase;
using planning::Weights;

constexpr int kMostGroups = 16;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

template <typename Value>
bool allows(const std::vector<Value>& allowed, Value value) {
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

// First layers of the groups, and the end. Embedding and head stand with their neighbours.
std::vector<int> group_starts(int layers) {
  const int groups = std::min(layers, kMostGroups);
  std::vector<int> starts;
  for (int g = 0; g <= groups; ++g) {
    starts.push_back(g * layers / groups);
  }
  return starts;
}

// Fastest shardings of runs of layers on one stage shape.
class RunSolver {
 public:
  struct Choice {
    Option option;
    std::int64_t transient = 0;
  };

  RunSolver(MicrobatchModel& model, int shape)
      : model_(model),
        shape_(shape),
        weights_{1, 1.0 / model.num_microbatches(), 0, 1},
        layers_(model.num_layers()) {}

  // Options of layers [first, end) for each end up to `last_end`, by dynamic programming over
  // outputs; ends without a way are empty. `ends`: those asked for, rising.
  std::vector<std::vector<Choice>> solve(int first, const std::vector<int>& ends) {
    std::vector<std::vector<Choice>> all;
    std::vector<std::vector<int>> before;  // input that reaches an output best
    std::vector<double> value;             // by output of the last layer
    const bool is_whole = first == 0 && ends.size() == 1 && ends.front() == layers_;
    const TieCase tie = !model_.is_tied() ? TieCase::kNone
                        : is_whole        ? TieCase::kShared
                                          : TieCase::kExchanged;
    auto next_end = ends.begin();
    for (int layer = first; next_end != ends.end(); ++layer) {
      const BlockBound& bound = bound_of(layer, tie);
      std::vector<double> reached(at(bound.minimum.columns), planning::kForbidden);
      before.emplace_back(at(bound.minimum.columns), -1);
      for (int input = 0; input < bound.minimum.rows; ++input) {
        const double start = layer == first ? 0 : value[at(input)];
        for (int output = 0; output < bound.minimum.columns; ++output) {
          const double here = start + bound.minimum(input, output);
          if (here < reached[at(output)]) {
            reached[at(output)] = here;
            before.back()[at(output)] = input;
          }
        }
      }
      value = std::move(reached);
      if (layer + 1 == *next_end) {
        all.push_back(path(first, layer, tie, before, value));
        ++next_end;
      }
    }
    return all;
  }

 private:
  const BlockBound& bound_of(int layer, TieCase tie) {
    const auto [entry, is_new] = bounds_.try_emplace({model_.block_of(layer), tie});
    if (is_new) {
      entry->second = model_.options(shape_, layer, tie).bound(weights_);
    }
    return entry->second;
  }

  std::vector<Choice> path(int first,
                           int last,
                           TieCase tie,
                           const std::vector<std::vector<int>>& before,
                           const std::vector<double>& value) {
    const auto best = std::min_element(value.begin(), value.end());
    if (best == value.end() || *best >= planning::kForbidden) {
      return {};
    }
    std::vector<Choice> choices;
    int output = static_cast<int>(best - value.begin());
    for (int layer = last; layer >= first; --layer) {
      const int input = before[at(layer - first)][at(output)];
      const std::optional<Choice>& choice = choice_of(layer, tie, input, output);
      if (!choice) {
        return {};
      }
      choices.push_back(*choice);
      output = input;
    }
    std::reverse(choices.begin(), choices.end());
    return choices;
  }

  const std::optional<Choice>& choice_of(int layer, TieCase tie, int input, int output) {
    const auto [entry, is_new] = choices_.try_emplace({model_.block_of(layer), tie, input, output});
    if (is_new) {
      BlockOptions& options = model_.options(shape_, layer, tie);
      const BlockBound& bound = bound_of(layer, tie);
      const int mode = bound.mode[at(input * bound.minimum.columns + output)];
      if (std::optional<Option> option = options.minimiser(weights_, mode, input, output)) {
        entry->second = Choice{*option, options.exact_transient(*option)};
      }
    }
    return entry->second;
  }

  MicrobatchModel& model_;
  const int shape_;
  const Weights weights_;
  const int layers_;
  std::map<std::pair<int, TieCase>, BlockBound> bounds_;
  std::map<std::tuple<int, TieCase, int, int>, std::optional<Choice>> choices_;
};

class AlpaSearch {
 public:
  AlpaSearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request), cluster_(cluster), costs_(costs), best_(request, cluster) {}

  PlanResult search() {
    return best_.run([this] { search_all(); }, "Alpa's submeshes and shardings");
  }

 private:
  using Choices = std::vector<RunSolver::Choice>;
  // One run on one logical mesh of a submesh.
  struct Run {
    int shape = 0;
    Choices choices;
  };

  void search_all() {
    if (cluster_.types.size() > 1 || !best_.allows(Schedule::k1F1B)) {
      return;
    }
    const planning::StagePlaces places(
        cluster_,
        planning::is_aligned(request_.limits, cluster_),
        planning::stage_sizes(
            request_.graph(request_.batch), cluster_, request_.free_axes, request_.limits));
    planning::BlockPool pool;
    for (const int count : planning::microbatch_counts(request_)) {
      for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
        for (const StateSharding state :
             {StateSharding::kNone, StateSharding::kOptimizer, StateSharding::kParameters}) {
          if (allows(request_.limits.recomputes, recompute) &&
              allows(request_.limits.state_shardings, state)) {
            PlanRequest request = request_;
            request.limits.recomputes = {recompute};
            request.limits.state_shardings = {state};
            MicrobatchModel model(request, cluster_, costs_, places, pool, best_.deadline(), count);
            try_model(model);
          }
        }
      }
    }
  }

  std::vector<int> submeshes() const {
    const int devices = cluster_.num_devices();
    const int node = std::min(cluster_.levels.front().size, devices);
    std::vector<int> sizes;
    for (int size = 1; size < node; size *= 2) {
      sizes.push_back(size);
    }
    for (int size = node; size <= devices; size += node) {
      sizes.push_back(size);
    }
    const int most = request_.limits.max_stage_devices;
    std::erase_if(sizes, [&](int size) { return most > 0 && size > most; });
    return sizes;
  }

  void try_model(MicrobatchModel& model) {
    const int layers = model.num_layers();
    const std::vector<int> starts = group_starts(layers);
    const int groups = static_cast<int>(starts.size()) - 1;
    AlpaStageProblem problem;
    problem.layers = groups;
    problem.devices = cluster_.num_devices();
    problem.microbatches = model.num_microbatches();
    problem.submeshes = submeshes();
    problem.options.resize(at(groups));
    runs_.assign(at(groups), {});
    for (int g = 0; g < groups; ++g) {
      problem.options[at(g)].assign(
          at(groups - g), std::vector<std::vector<AlpaStageOption>>(problem.submeshes.size()));
      runs_[at(g)].assign(at(groups - g), std::vector<std::vector<Run>>(problem.submeshes.size()));
    }
    for (std::size_t s = 0; s < problem.submeshes.size(); ++s) {
      const planning::StagePlace place{0, 0, problem.submeshes[s]};
      for (const int shape : model.shapes_at(place)) {
        add_shape(model, shape, s, starts, problem);
      }
    }
    if (const std::optional<AlpaStagePlan> found = find_alpa_stages(problem)) {
      judge_stages(model, problem, *found, starts);
    }
  }

  void add_shape(MicrobatchModel& model,
                 int shape,
                 std::size_t submesh,
                 const std::vector<int>& starts,
                 AlpaStageProblem& problem) {
    RunSolver solver(model, shape);
    const int groups = problem.layers;
    const auto add = [&](int g, int end, Choices choices) {
      if (const auto option = option_of(model, shape, starts[at(g)], choices)) {
        problem.options[at(g)][at(end - g - 1)][submesh].push_back(*option);
        runs_[at(g)][at(end - g - 1)][submesh].push_back({shape, std::move(choices)});
      }
    };
    for (int g = 0; g < groups; ++g) {
      best_.deadline().check();
      const bool is_cut_off = g == 0;  // the whole chain is a run of its own: its tie differs
      const std::vector<int> ends(starts.begin() + g + 1, starts.end() - (is_cut_off ? 1 : 0));
      std::vector<Choices> solved = solver.solve(starts[at(g)], ends);
      for (std::size_t e = 0; e < solved.size(); ++e) {
        add(g, g + 1 + static_cast<int>(e), std::move(solved[e]));
      }
    }
    add(0, groups, std::move(solver.solve(0, {model.num_layers()}).front()));
  }

  std::optional<AlpaStageOption> option_of(MicrobatchModel& model,
                                           int shape,
                                           int first,
                                           const Choices& choices) const {
    if (choices.empty()) {
      return std::nullopt;
    }
    planning::Cost sum;
    std::vector<internal::LayerMemory> layers;
    std::int64_t once = 0;  // boundaries that both neighbours keep
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const Option& option = choices[i].option;
      sum += option.cost;
      if (i > 0 && choices[i - 1].option.saves_output && option.saves_input) {
        once += model.options(shape, first + static_cast<int>(i), TieCase::kNone)
                    .input_bytes(option.input);
      }
      layers.push_back({model.block_of(first + static_cast<int>(i)),
                        Bytes(sum.saved - once),
                        Bytes(choices[i].transient)});
    }
    const std::int64_t transient = internal::chunk_transient(layers, true).count;
    const std::int64_t saved = std::max<std::int64_t>(sum.saved - once, 1);
    const std::int64_t left = model.memory_limit(shape) - sum.state - transient;
    const std::int64_t in_flight = left / saved;
    if (left < 0 || in_flight < 1) {
      return std::nullopt;
    }
    const std::int64_t time = sum.time() + sum.per_step / model.num_microbatches();
    return AlpaStageOption{Picoseconds(time),
                           static_cast<int>(std::min<std::int64_t>(in_flight - 1, 1 << 20))};
  }

  // Larger submeshes stand first, so that none straddles nodes (Alpa's theorem 1).
  void judge_stages(MicrobatchModel& model,
                    const AlpaStageProblem& problem,
                    const AlpaStagePlan& found,
                    const std::vector<int>& starts) {
    const std::size_t count = found.stages.size();
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    const auto size = [&](std::size_t s) { return problem.submeshes[at(found.stages[s].submesh)]; };
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return size(a) > size(b);
    });
    planning::PipelineSolution solution;
    solution.problem = &model;
    solution.stages.resize(count);
    int start = 0;
    for (const std::size_t s : order) {
      const AlpaStage& stage = found.stages[s];
      const Run& run = runs_[at(stage.first_layer)][at(stage.end_layer - stage.first_layer - 1)]
                            [at(stage.submesh)][at(stage.option)];
      planning::StageSolution& part = solution.stages[s];
      part.place = {0, start, size(s)};
      start += size(s);
      const std::vector<int>& shapes = model.shapes_at(part.place);
      if (std::find(shapes.begin(), shapes.end(), run.shape) == shapes.end()) {
        return;
      }
      part.shape = run.shape;
      part.begin = starts[at(stage.first_layer)];
      for (const RunSolver::Choice& choice : run.choices) {
        part.options.push_back(choice.option);
      }
    }
    Evaluator evaluator(model.graph(), cluster_, costs_);
    best_.judge(model.plan_of(solution), model.graph(), evaluator);
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  BestPlan best_;
  std::vector<std::vector<std::vector<std::vector<Run>>>> runs_;  // as AlpaStageProblem::options
};

}  // namespace

PlanResult find_alpa_plan(const PlanRequest& request,
                          const Cluster& cluster,
                          const CostTable& costs) {
  return AlpaSearch(request, cluster, costs).search();
}

}  // namespace shardwise
