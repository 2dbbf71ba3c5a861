// The bound on a block's options (option_search.h), and single options.
#include <algorithm>

#include "core/errors.h"
#include "graph/layer_body.h"
#include "graph/layer_memory.h"
#include "planner/option_search.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

BlockBound bound_block(const BlockCosts& costs,
                       BlockRelaxation& relaxation,
                       const std::vector<Mode>& modes,
                       const Weights& weights) {
  const int rows = static_cast<int>(costs.inputs().size());
  const int columns = static_cast<int>(costs.outputs().size());
  BlockBound bound{Matrix(rows, columns, kForbidden), std::vector<int>(at(rows * columns), -1)};
  if (!costs.is_possible()) {
    return bound;
  }
  // The most promising first: what it excels by enough need not be summed.
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t m = 0; m < modes.size(); ++m) {
    order.emplace_back(relaxation.least_excess(modes[0], modes[m], weights), m);
  }
  std::sort(order.begin(), order.end());
  struct Summed {
    std::size_t mode = 0;
    std::vector<double> minimum;
  };
  std::vector<Summed> summed;
  const std::vector<double>& least = bound.minimum.values;
  const auto is_beaten = [&](std::size_t m) {
    return std::any_of(summed.begin(), summed.end(), [&](const Summed& other) {
      const double excess = relaxation.least_excess(modes[other.mode], modes[m], weights);
      return std::equal(
          least.begin(), least.end(), other.minimum.begin(), [&](double known, double than) {
            return than + excess >= known;
          });
    });
  };
  for (const auto& [rank, m] : order) {
    if (is_beaten(m)) {
      continue;
    }
    const Elimination& sum = relaxation.sum(modes[m], weights);
    for (std::size_t i = 0; i < least.size(); ++i) {
      if (sum.minimum()[i] < least[i]) {
        bound.minimum.values[i] = sum.minimum()[i];
        bound.mode[i] = static_cast<int>(m);
      }
    }
    summed.push_back({m, sum.minimum()});
  }
  return bound;
}

std::vector<int> least_choices(const BlockCosts& costs,
                               BlockRelaxation& relaxation,
                               const Mode& mode,
                               const Weights& weights,
                               int input,
                               int output) {
  std::vector<int> choices = relaxation.sum(mode, weights).minimiser({input, output});
  choices.resize(at(costs.num_ops()));
  return choices;
}

std::optional<Option> make_option(const BlockCosts& costs,
                                  const Mode& mode,
                                  int input,
                                  int output,
                                  const std::vector<int>& choices) {
  Option option;
  option.mode = mode;
  option.input = input;
  option.output = output;
  for (int o = 0; o < costs.num_ops(); ++o) {
    const int choice = choices[at(o)];
    option.choices[at(o)] = static_cast<std::uint8_t>(choice);
    option.cost += costs.op_cost(o, choice, mode);
    option.signature = std::max(option.signature, costs.signature(o, choice, mode));
  }
  for (TensorIndex t = 0; t < static_cast<int>(costs.block().tensors.size()); ++t) {
    if (!costs.has_cost(t)) {
      continue;
    }
    std::vector<UseClassId> uses;
    for (const BlockCosts::TensorUse& use : costs.uses(t)) {
      uses.push_back(costs.use_class(use.op, use.input, choices[at(use.op)]));
    }
    if (costs.is_output(t)) {
      uses.push_back(costs.output_class(output));
    }
    std::sort(uses.begin(), uses.end());
    const int producer = costs.producer(t);
    const Closing closing =
        costs.close(t, producer < 0 ? input : choices[at(producer)], uses, mode.recompute);
    if (!closing.possible) {
      return std::nullopt;
    }
    option.cost += closing.cost;
    option.saves_input |= producer < 0 && closing.keeps_produced;
    option.saves_output |= closing.keeps_output;
  }
  option.transient = exact_transient(costs, option);
  option.is_transient_exact = true;
  return option;
}

LayerPlan layer_plan_of(const BlockCosts& costs, const Option& option) {
  LayerPlan plan;
  for (int o = 0; o < costs.num_ops(); ++o) {
    plan.op_axes.push_back(costs.choices(o)[option.choices[at(o)]]);
  }
  if (costs.has_input()) {
    plan.input_layout = costs.inputs()[at(option.input)];
  }
  plan.state_sharding = option.mode.sharding;
  plan.recompute = option.mode.recompute;
  return plan;
}

std::int64_t exact_transient(const BlockCosts& costs, const Option& option) {
  std::int64_t momentary = 0;
  std::int64_t held = 0;
  for (int o = 0; o < costs.num_ops(); ++o) {
    const BlockCosts::ParameterMemory& memory =
        costs.parameter_memory(o, option.choices[at(o)], option.mode);
    momentary = std::max(momentary, memory.momentary);
    held += memory.held;
  }
  const LayerBody body = make_layer_body(costs.block(),
                                         layer_plan_of(costs, option),
                                         costs.shape().mesh,
                                         costs.outputs()[at(option.output)],
                                         costs.precision());
  return transient_bytes(body).count + momentary + held;
}

}  // namespace shardwise::planning
