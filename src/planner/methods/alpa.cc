#include "planner/methods/alpa.h"

#include <algorithm>
#include <limits>

#include "core/errors.h"
#include "planner/milp.h"

namespace shardwise {

namespace {

using planning::Milp;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

void check(const AlpaOperators& operators) {
  const int count = static_cast<int>(operators.cost.size());
  const auto require = [](bool condition, const char* what) {
    if (!condition) {
      throw InputError("Alpa operators", what);
    }
  };
  for (const auto& strategies : operators.cost) {
    require(!strategies.empty(), "expected at least one strategy for every operator");
  }
  for (const AlpaOperators::Edge& edge : operators.edges) {
    require(edge.source >= 0 && edge.source < count && edge.target >= 0 && edge.target < count,
            "an edge leads to no operator");
    require(edge.reshard.size() == operators.cost[at(edge.source)].size(),
            "an edge needs a row for every strategy of its source");
    for (const auto& row : edge.reshard) {
      require(row.size() == operators.cost[at(edge.target)].size(),
              "an edge needs a column for every strategy of its target");
    }
  }
  if (operators.memory_limit) {
    require(operators.memory.size() == operators.cost.size(),
            "expected the memory of every operator");
    for (const auto& moment : operators.alive) {
      for (const int v : moment) {
        require(v >= 0 && v < count, "an operator that is alive does not exist");
      }
    }
  }
}

}  // namespace

AlpaShardings solve_alpa_shardings(const AlpaOperators& operators, Seconds time_limit) {
  check(operators);
  std::int64_t largest = 1;
  for (const auto& strategies : operators.cost) {
    for (const Picoseconds cost : strategies) {
      largest = std::max(largest, cost.count);
    }
  }
  // In units of the largest cost, so that HiGHS's tolerances mean something.
  const auto scaled = [&](Picoseconds time) {
    return static_cast<double>(time.count) / static_cast<double>(largest);
  };
  Milp milp;
  std::vector<std::vector<int>> chosen;
  for (const auto& strategies : operators.cost) {
    chosen.emplace_back();
    std::vector<Milp::Term> one;
    for (const Picoseconds cost : strategies) {
      chosen.back().push_back(milp.add_binary(scaled(cost)));
      one.push_back({chosen.back().back(), 1});
    }
    milp.add_row(1, one, 1);
  }
  for (const AlpaOperators::Edge& edge : operators.edges) {
    std::vector<std::vector<Milp::Term>> rows(operators.cost[at(edge.source)].size());
    std::vector<std::vector<Milp::Term>> columns(operators.cost[at(edge.target)].size());
    for (std::size_t p = 0; p < rows.size(); ++p) {
      for (std::size_t q = 0; q < columns.size(); ++q) {
        const int flow =
            milp.add_variable(scaled(edge.reshard[p][q]), 0, 1, Milp::Domain::kContinuous);
        rows[p].push_back({flow, 1});
        columns[q].push_back({flow, 1});
      }
    }
    for (std::size_t p = 0; p < rows.size(); ++p) {
      rows[p].push_back({chosen[at(edge.source)][p], -1});
      milp.add_row(0, rows[p], 0);
    }
    for (std::size_t q = 0; q < columns.size(); ++q) {
      columns[q].push_back({chosen[at(edge.target)][q], -1});
      milp.add_row(0, columns[q], 0);
    }
  }
  if (operators.memory_limit) {
    const double limit =
        static_cast<double>(std::max<std::int64_t>(1, operators.memory_limit->count));
    for (const auto& moment : operators.alive) {
      std::vector<Milp::Term> row;
      for (const int v : moment) {
        for (std::size_t k = 0; k < chosen[at(v)].size(); ++k) {
          row.push_back(
              {chosen[at(v)][k], static_cast<double>(operators.memory[at(v)][k].count) / limit});
        }
      }
      milp.add_row(-Milp::kInfinity, row, operators.memory_limit->count <= 0 ? 0 : 1);
    }
  }
  const Milp::Result found = milp.solve(time_limit);
  AlpaShardings result;
  result.stop_reason = found.stop_reason;
  if (found.values.empty()) {
    return result;
  }
  for (const auto& variables : chosen) {
    const auto best = std::max_element(variables.begin(), variables.end(), [&](int a, int b) {
      return found.values[at(a)] < found.values[at(b)];
    });
    result.strategies.push_back(static_cast<int>(best - variables.begin()));
  }
  const auto cost = evaluate_alpa_shardings(operators, result.strategies);
  if (!cost) {
    throw RuntimeFailure("HiGHS: its solution violates the programme beyond its tolerance");
  }
  result.cost = *cost;
  return result;
}

std::optional<Picoseconds> evaluate_alpa_shardings(const AlpaOperators& operators,
                                                   const std::vector<int>& strategies) {
  check(operators);
  SHARDWISE_CHECK(strategies.size() == operators.cost.size(), "a strategy for each operator");
  Picoseconds total{0};
  for (std::size_t v = 0; v < strategies.size(); ++v) {
    total += operators.cost[v][at(strategies[v])];
  }
  for (const AlpaOperators::Edge& edge : operators.edges) {
    total += edge.reshard[at(strategies[at(edge.source)])][at(strategies[at(edge.target)])];
  }
  if (operators.memory_limit) {
    for (const auto& moment : operators.alive) {
      Bytes used{0};
      for (const int v : moment) {
        used += operators.memory[at(v)][at(strategies[at(v)])];
      }
      if (used > *operators.memory_limit) {
        return std::nullopt;
      }
    }
  }
  return total;
}

namespace {

// Stages from the last to the first: best[s][layer][devices] of the layers from `layer` on.
class StageCutter {
 public:
  explicit StageCutter(const AlpaStageProblem& problem) : problem_(problem) {}

  // Least sum of stage times with no stage longer than `longest`.
  std::optional<AlpaStagePlan> cut(std::int64_t longest) {
    const int layers = problem_.layers;
    const int devices = problem_.devices;
    const int most = std::min(layers, devices);
    const std::size_t states = at(layers + 1) * at(devices + 1);
    best_.assign(at(most + 1), std::vector<std::int64_t>(states, kNone));
    choice_.assign(at(most + 1), std::vector<AlpaStage>(states));
    best_[0][state(layers, 0)] = 0;
    int best_stages = -1;
    for (int s = 1; s <= most; ++s) {
      fill(s, longest);
      const std::int64_t value = best_[at(s)][state(0, devices)];
      if (value != kNone &&
          (best_stages < 0 || value < best_[at(best_stages)][state(0, devices)])) {
        best_stages = s;
      }
    }
    if (best_stages < 0) {
      return std::nullopt;
    }
    AlpaStagePlan plan;
    std::int64_t longest_used = 0;
    std::int64_t sum = 0;
    int layer = 0;
    int left = devices;
    for (int s = best_stages; s > 0; --s) {
      const AlpaStage& stage = choice_[at(s)][state(layer, left)];
      const std::int64_t time = option_of(stage).time.count;
      sum += time;
      longest_used = std::max(longest_used, time);
      plan.stages.push_back(stage);
      left -= problem_.submeshes[at(stage.submesh)];
      layer = stage.end_layer;
    }
    plan.step_time = Picoseconds(sum + (problem_.microbatches - 1) * longest_used);
    return plan;
  }

 private:
  static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

  std::size_t state(int layer, int devices) const {
    return at(layer) * at(problem_.devices + 1) + at(devices);
  }
  const AlpaStageOption& option_of(const AlpaStage& stage) const {
    return problem_.options[at(stage.first_layer)][at(stage.end_layer - stage.first_layer - 1)]
                           [at(stage.submesh)][at(stage.option)];
  }

  void fill(int s, std::int64_t longest) {
    for (int layer = problem_.layers - 1; layer >= 0; --layer) {
      for (int end = layer + 1; end <= problem_.layers; ++end) {
        const auto& by_submesh = problem_.options[at(layer)][at(end - layer - 1)];
        for (std::size_t m = 0; m < by_submesh.size(); ++m) {
          // The fastest option that may have s - 1 successors.
          int fastest = -1;
          for (std::size_t o = 0; o < by_submesh[m].size(); ++o) {
            const AlpaStageOption& option = by_submesh[m][o];
            if (option.most_successors >= s - 1 && option.time.count <= longest &&
                (fastest < 0 || option.time < by_submesh[m][at(fastest)].time)) {
              fastest = static_cast<int>(o);
            }
          }
          if (fastest >= 0) {
            const AlpaStage stage{layer, end, static_cast<int>(m), fastest};
            extend(s, stage, by_submesh[m][at(fastest)].time.count);
          }
        }
      }
    }
  }

  void extend(int s, const AlpaStage& stage, std::int64_t time) {
    const int size = problem_.submeshes[at(stage.submesh)];
    for (int devices = size; devices <= problem_.devices; ++devices) {
      const std::int64_t rest = best_[at(s - 1)][state(stage.end_layer, devices - size)];
      std::int64_t& best = best_[at(s)][state(stage.first_layer, devices)];
      if (rest != kNone && rest + time < best) {
        best = rest + time;
        choice_[at(s)][state(stage.first_layer, devices)] = stage;
      }
    }
  }

  const AlpaStageProblem& problem_;
  std::vector<std::vector<std::int64_t>> best_;
  std::vector<std::vector<AlpaStage>> choice_;
};

}  // namespace

std::optional<AlpaStagePlan> find_alpa_stages(const AlpaStageProblem& problem) {
  std::vector<std::int64_t> times;
  for (const auto& by_end : problem.options) {
    for (const auto& by_submesh : by_end) {
      for (const auto& options : by_submesh) {
        for (const AlpaStageOption& option : options) {
          times.push_back(option.time.count);
        }
      }
    }
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  StageCutter cutter(problem);
  std::optional<AlpaStagePlan> best;
  for (const std::int64_t longest : times) {
    // A plan with a longer stage takes at least its time in every micro-batch.
    if (best && problem.microbatches * longest >= best->step_time.count) {
      break;
    }
    const auto found = cutter.cut(longest);
    if (found && (!best || found->step_time < best->step_time)) {
      best = found;
    }
  }
  return best;
}

}  // namespace shardwise
