#include "planner/methods/uniap.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/errors.h"
#include "planner/deadline.h"
#include "planner/milp.h"

namespace shardwise {

namespace {

using planning::Milp;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

void check(const UniapProblem& problem) {
  const int layers = static_cast<int>(problem.layers.size());
  if (layers == 0 || problem.stages < 1 || problem.microbatches < 1) {
    throw InputError("UniAP problem", "expected layers, stages and micro-batches of at least one");
  }
  for (const UniapEdge& edge : problem.edges) {
    if (edge.source < 0 || edge.source >= edge.target || edge.target >= layers) {
      throw InputError("UniAP problem",
                       fmt::format("edge from layer {} to {} does not lead forward among {} layers",
                                   edge.source,
                                   edge.target,
                                   layers));
    }
    const auto is_shaped = [&](const auto& costs) {
      return costs.size() == problem.layers[at(edge.source)].size() &&
             std::all_of(costs.begin(), costs.end(), [&](const auto& row) {
               return row.size() == problem.layers[at(edge.target)].size();
             });
    };
    if (!is_shaped(edge.same_stage) || !is_shaped(edge.next_stage)) {
      throw InputError("UniAP problem",
                       fmt::format("edge from layer {} to {}: expected costs for every pair of "
                                   "strategies",
                                   edge.source,
                                   edge.target));
    }
  }
}

int num_stages(const UniapProblem& problem) {
  return problem.space == UniapSpace::kIntraOnly ? 1 : problem.stages;
}

// The programme of the header. Names follow the paper.
class UniapMilp {
 public:
  explicit UniapMilp(const UniapProblem& problem)
      : problem_(problem), num_stages_(num_stages(problem)) {
    // Times in units of the largest, so that HiGHS's tolerances mean something.
    std::int64_t largest = 1;
    for (const auto& layer : problem.layers) {
      for (const UniapStrategy& strategy : layer) {
        largest = std::max(largest, strategy.time.count);
      }
    }
    scale_ = 1 / static_cast<double>(largest);
    const Milp::Domain continuous = Milp::Domain::kContinuous;
    longest_ = milp_.add_variable(problem.microbatches - 1, 0, Milp::kInfinity, continuous);
    for (int i = 0; i < num_stages_; ++i) {
      compute_.emplace_back();
      transfer_.emplace_back();
    }
    add_layers();
    for (const UniapEdge& edge : problem.edges) {
      add_edge(edge);
    }
    add_maxima();
    add_ablation();
  }

  UniapResult solve(Seconds time_limit) const {
    const Milp::Result found = milp_.solve(time_limit);
    UniapResult result;
    result.stop_reason = found.stop_reason;
    if (found.values.empty()) {
      return result;
    }
    UniapPlan plan;
    for (const auto& layer : choice_) {
      for (int i = 0; i < num_stages_; ++i) {
        for (std::size_t k = 0; k < layer[at(i)].size(); ++k) {
          if (found.values[at(layer[at(i)][k])] > 0.5) {
            plan.stage.push_back(i);
            plan.strategy.push_back(static_cast<int>(k));
          }
        }
      }
    }
    const auto time = evaluate_uniap(problem_, plan);
    if (!time) {
      throw RuntimeFailure("HiGHS: its solution violates the programme beyond its tolerance");
    }
    result.plan = std::move(plan);
    result.step_time = *time;
    result.lower_bound = std::min(*time, Picoseconds(std::llround(found.bound / scale_)));
    return result;
  }

 private:
  double scaled(Picoseconds time) const { return static_cast<double>(time.count) * scale_; }

  // Adds `time` of a variable to a stage's sum, and so to the objective.
  int add_timed(Picoseconds time, std::vector<Milp::Term>& stage, Milp::Domain domain) {
    const int variable = milp_.add_variable(scaled(time), 0, 1, domain);
    if (time.count > 0) {
      stage.push_back({variable, scaled(time)});
    }
    return variable;
  }

  // Y, placement and strategy selection (5, 6), memory (3).
  void add_layers() {
    std::vector<std::vector<Milp::Term>> memory(at(num_stages_));
    std::vector<std::vector<Milp::Term>> placed(at(num_stages_));
    const double limit = static_cast<double>(std::max<std::int64_t>(problem_.memory.count, 1));
    for (const auto& layer : problem_.layers) {
      choice_.emplace_back(at(num_stages_));
      std::vector<Milp::Term> one;
      for (int i = 0; i < num_stages_; ++i) {
        for (const UniapStrategy& strategy : layer) {
          const int y = add_timed(strategy.time, compute_[at(i)], Milp::Domain::kInteger);
          choice_.back()[at(i)].push_back(y);
          one.push_back({y, 1});
          placed[at(i)].push_back({y, 1});
          memory[at(i)].push_back({y, static_cast<double>(strategy.memory.count) / limit});
        }
      }
      milp_.add_row(1, one, 1);
    }
    const double room = problem_.memory.count <= 0 ? 0 : 1;
    for (int i = 0; i < num_stages_; ++i) {
      milp_.add_row(-Milp::kInfinity, memory[at(i)], room);
      milp_.add_row(1, placed[at(i)], Milp::kInfinity);
    }
  }

  // The flow of one edge: what leaves Y_u(i, k) arrives at Y_v(j, l) with j >= i (1, 2, 4).
  void add_edge(const UniapEdge& edge) {
    const auto& from = choice_[at(edge.source)];
    const auto& to = choice_[at(edge.target)];
    const std::size_t sources = from[0].size();
    const std::size_t targets = to[0].size();
    const auto continuous = Milp::Domain::kContinuous;
    std::vector<std::vector<std::vector<Milp::Term>>> out(
        at(num_stages_), std::vector<std::vector<Milp::Term>>(sources));
    std::vector<std::vector<std::vector<Milp::Term>>> in(
        at(num_stages_), std::vector<std::vector<Milp::Term>>(targets));
    for (int i = 0; i < num_stages_; ++i) {
      for (std::size_t k = 0; k < sources; ++k) {
        for (std::size_t l = 0; l < targets; ++l) {
          const int same = add_timed(edge.same_stage[k][l], compute_[at(i)], continuous);
          out[at(i)][k].push_back({same, 1});
          in[at(i)][l].push_back({same, 1});
          if (i + 1 < num_stages_) {
            const int next = add_timed(edge.next_stage[k][l], transfer_[at(i)], continuous);
            out[at(i)][k].push_back({next, 1});
            in[at(i + 1)][l].push_back({next, 1});
          }
        }
      }
      // Farther stages cost nothing, so strategies need not be paired: only sums must agree.
      for (int j = i + 2; j < num_stages_; ++j) {
        std::vector<Milp::Term> balance;
        for (std::size_t k = 0; k < sources; ++k) {
          const int leaves = milp_.add_variable(0, 0, 1, continuous);
          out[at(i)][k].push_back({leaves, 1});
          balance.push_back({leaves, 1});
        }
        for (std::size_t l = 0; l < targets; ++l) {
          const int arrives = milp_.add_variable(0, 0, 1, continuous);
          in[at(j)][l].push_back({arrives, 1});
          balance.push_back({arrives, -1});
        }
        milp_.add_row(0, balance, 0);
      }
    }
    const auto tie = [&](const std::vector<std::vector<int>>& choice,
                         std::vector<std::vector<std::vector<Milp::Term>>>& flows) {
      for (int i = 0; i < num_stages_; ++i) {
        for (std::size_t k = 0; k < flows[at(i)].size(); ++k) {
          flows[at(i)][k].push_back({choice[at(i)][k], -1});
          milp_.add_row(0, flows[at(i)][k], 0);
        }
      }
    };
    tie(from, out);
    tie(to, in);
  }

  // longest >= p_i, longest >= o_j.
  void add_maxima() {
    const auto bound = [&](std::vector<Milp::Term> sum) {
      for (Milp::Term& term : sum) {
        term.factor = -term.factor;
      }
      sum.push_back({longest_, 1});
      milp_.add_row(0, sum, Milp::kInfinity);
    };
    for (int i = 0; i < num_stages_; ++i) {
      bound(compute_[at(i)]);
      if (i + 1 < num_stages_) {
        bound(transfer_[at(i)]);
      }
    }
  }

  // Inter-only: every layer takes the strategy of the first.
  void add_ablation() {
    if (problem_.space != UniapSpace::kInterOnly) {
      return;
    }
    for (std::size_t u = 1; u < choice_.size(); ++u) {
      const std::size_t most = std::max(problem_.layers[0].size(), problem_.layers[u].size());
      for (std::size_t k = 0; k < most; ++k) {
        std::vector<Milp::Term> row;
        for (int i = 0; i < num_stages_; ++i) {
          if (k < problem_.layers[0].size()) {
            row.push_back({choice_[0][at(i)][k], 1});
          }
          if (k < problem_.layers[u].size()) {
            row.push_back({choice_[u][at(i)][k], -1});
          }
        }
        milp_.add_row(0, row, 0);
      }
    }
  }

  const UniapProblem& problem_;
  const int num_stages_;
  Milp milp_;
  double scale_ = 1;
  int longest_ = 0;
  std::vector<std::vector<std::vector<int>>> choice_;  // Y [layer][stage][strategy]
  std::vector<std::vector<Milp::Term>> compute_;       // p_i
  std::vector<std::vector<Milp::Term>> transfer_;      // o_j
};

// Whether two layers of a chain have equal strategies, and equal edges to the layer after them.
bool are_alike(const UniapProblem& problem, std::size_t a, std::size_t b) {
  const std::size_t last = problem.layers.size() - 1;
  if (a == last || b == last) {
    return a == b;
  }
  return problem.layers[a] == problem.layers[b] &&
         problem.edges[a].same_stage == problem.edges[b].same_stage &&
         problem.edges[a].next_stage == problem.edges[b].next_stage;
}

// The chain as a listed problem: UniAP's objective is 1F1B's with hidden transfers, its memory all
// state. Layouts are strategy numbers; layers with equal strategies and edges are one block.
ListedProblem listed(const UniapProblem& problem, std::optional<int> only_strategy) {
  const int stages = num_stages(problem);
  ListedProblem result;
  result.types = {{"device", stages, problem.memory}};
  result.meshes = {{0, 1, "stage"}};
  result.num_microbatches = problem.microbatches;
  result.schedules = {Schedule::k1F1BEager};
  result.min_stages = stages;
  result.max_stages = stages;
  std::vector<std::size_t> layer_of_block;  // the first of them
  for (std::size_t u = 0; u < problem.layers.size(); ++u) {
    const auto known =
        std::find_if(layer_of_block.begin(), layer_of_block.end(), [&](std::size_t other) {
          return are_alike(problem, other, u);
        });
    result.layers.push_back(static_cast<int>(known - layer_of_block.begin()));
    if (known != layer_of_block.end()) {
      continue;
    }
    layer_of_block.push_back(u);
    std::vector<ListedOption> options;
    for (std::size_t k = 0; k < problem.layers[u].size(); ++k) {
      if (only_strategy && *only_strategy != static_cast<int>(k)) {
        continue;
      }
      ListedOption option;
      option.forward = problem.layers[u][k].time;
      option.state = problem.layers[u][k].memory;
      option.input = static_cast<int>(k);
      option.output = static_cast<int>(k);
      options.push_back(option);
    }
    result.options.push_back({std::move(options)});
  }
  const auto move = [&problem, layer_of_block](int block, int output, int input, bool is_same) {
    const UniapEdge& edge = problem.edges[layer_of_block[at(block)]];
    const auto& costs = is_same ? edge.same_stage : edge.next_stage;
    return std::optional(ListedMove{costs[at(output)][at(input)], Picoseconds(0)});
  };
  result.reshard = [move](int block, int, int output, int input) {
    return move(block, output, input, true);
  };
  result.crossing = [move](int block, int, int output, int, int input) {
    return move(block, output, input, false);
  };
  return result;
}

UniapResult solve_listed(const UniapProblem& problem,
                         std::optional<int> only_strategy,
                         const ListedLimits& limits) {
  const ListedProblem instance = listed(problem, only_strategy);
  const ListedResult found = find_listed_plan(instance, limits);
  UniapResult result;
  result.stop_reason = found.stop_reason;
  result.lower_bound = found.lower_bound;
  if (!found.plan) {
    return result;
  }
  UniapPlan plan;
  for (std::size_t i = 0; i < found.plan->stages.size(); ++i) {
    const ListedStage& stage = found.plan->stages[i];
    for (std::size_t n = 0; n < stage.options.size(); ++n) {
      const int block = instance.layers[at(stage.first_layer) + n];
      const auto& options = instance.options[at(block)][0];
      plan.stage.push_back(static_cast<int>(i));
      plan.strategy.push_back(options[at(stage.options[n])].input);
    }
  }
  const auto time = evaluate_uniap(problem, plan);
  SHARDWISE_CHECK(time.has_value(), "the exact search found a plan that is none");
  result.plan = std::move(plan);
  result.step_time = *time;
  return result;
}

}  // namespace

bool has_highs() { return SHARDWISE_HAS_HIGHS != 0; }

UniapResult solve_uniap_milp(const UniapProblem& problem, Seconds time_limit) {
  check(problem);
  return UniapMilp(problem).solve(time_limit);
}

UniapResult solve_uniap_exactly(const UniapProblem& problem, const ListedLimits& limits) {
  check(problem);
  const std::size_t layers = problem.layers.size();
  bool is_chain = problem.edges.size() + 1 == layers;
  for (std::size_t e = 0; is_chain && e < problem.edges.size(); ++e) {
    is_chain = at(problem.edges[e].source) == e && at(problem.edges[e].target) == e + 1;
  }
  if (!is_chain) {
    throw InputError("UniAP problem", "expected a chain: edges 0-1, 1-2, ... in this order");
  }
  if (at(num_stages(problem)) > layers) {
    return {};
  }
  if (problem.space != UniapSpace::kInterOnly) {
    return solve_listed(problem, std::nullopt, limits);
  }
  std::size_t common = std::numeric_limits<std::size_t>::max();
  for (const auto& layer : problem.layers) {
    common = std::min(common, layer.size());
  }
  const planning::Deadline deadline =
      planning::Deadline::after(limits.time_limit.count, limits.stop);
  ListedLimits rest = limits;
  UniapResult best;
  bool is_whole = true;  // no limit cut a search short
  for (std::size_t k = 0; k < common; ++k) {
    rest.time_limit = Seconds(deadline.seconds_left());
    UniapResult found = solve_listed(problem, static_cast<int>(k), rest);
    is_whole = is_whole && (found.stop_reason == StopReason::kOptimal ||
                            found.stop_reason == StopReason::kInfeasible);
    if (found.plan && (!best.plan || found.step_time < best.step_time)) {
      best = std::move(found);
    }
  }
  if (!is_whole) {
    best.stop_reason = best.plan ? StopReason::kFeasible : StopReason::kLimitReached;
    best.lower_bound = Picoseconds(0);
  }
  return best;
}

std::optional<Picoseconds> evaluate_uniap(const UniapProblem& problem, const UniapPlan& plan) {
  const std::size_t layers = problem.layers.size();
  const auto stages = at(num_stages(problem));
  if (plan.stage.size() != layers || plan.strategy.size() != layers) {
    return std::nullopt;
  }
  std::vector<Picoseconds> compute(stages, Picoseconds(0));
  std::vector<Picoseconds> transfer(stages, Picoseconds(0));
  std::vector<Bytes> memory(stages, Bytes(0));
  std::vector<int> placed(stages, 0);
  for (std::size_t u = 0; u < layers; ++u) {
    const bool is_choice = plan.stage[u] >= 0 && at(plan.stage[u]) < stages &&
                           plan.strategy[u] >= 0 && at(plan.strategy[u]) < problem.layers[u].size();
    if (!is_choice ||
        (problem.space == UniapSpace::kInterOnly && plan.strategy[u] != plan.strategy[0])) {
      return std::nullopt;
    }
    const UniapStrategy& strategy = problem.layers[u][at(plan.strategy[u])];
    const std::size_t i = at(plan.stage[u]);
    compute[i] += strategy.time;
    memory[i] += strategy.memory;
    ++placed[i];
  }
  for (const UniapEdge& edge : problem.edges) {
    const int i = plan.stage[at(edge.source)];
    const int j = plan.stage[at(edge.target)];
    const std::size_t k = at(plan.strategy[at(edge.source)]);
    const std::size_t l = at(plan.strategy[at(edge.target)]);
    if (j < i) {
      return std::nullopt;
    }
    if (j == i) {
      compute[at(i)] += edge.same_stage[k][l];
    } else if (j == i + 1) {
      transfer[at(i)] += edge.next_stage[k][l];
    }
  }
  Picoseconds sum{0};
  Picoseconds longest{0};
  for (std::size_t i = 0; i < stages; ++i) {
    if (placed[i] == 0 || memory[i] > problem.memory) {
      return std::nullopt;
    }
    sum += compute[i] + transfer[i];
    longest = std::max({longest, compute[i], transfer[i]});
  }
  return sum + (problem.microbatches - 1) * longest;
}

}  // namespace shardwise
