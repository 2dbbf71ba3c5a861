// The bound on a block's options (option_search.h), and single options.
#include <algorithm>

#include "core/errors.h"
#include "graph/layer_body.h"
#include "graph/layer_memory.h"
#include "planner/option_factors.h"
#include "planner/option_search.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

double weighted(const Weights& weights, const BlockCosts::Share& share) {
  return share.possible ? weights.time * (share.forward + share.backward) +
                              weights.memory * weights.in_flight * share.saved
                        : kForbidden;
}

// Uses of a tensor as variables of the elimination.
struct Scope {
  std::vector<int> variables;          // producer or input first, then users, each once
  std::vector<std::vector<int>> uses;  // for each further variable: inputs of that op it is
};

class FactorBuilder {
 public:
  FactorBuilder(const BlockCosts& costs,
                const Mode& mode,
                const Weights& weights,
                const Domains& domains)
      : costs_(costs), mode_(mode), weights_(weights), domains_(domains) {}

  Elimination build() {
    for (int o = 0; o < costs_.num_ops(); ++o) {
      sum_.add_variable(static_cast<int>(domains_[at(o)].size()));
    }
    sum_.add_variable(static_cast<int>(costs_.inputs().size()));
    sum_.add_variable(static_cast<int>(costs_.outputs().size()));
    for (int o = 0; o < costs_.num_ops(); ++o) {
      std::vector<double> values;
      for (const int choice : domains_[at(o)]) {
        values.push_back(weights_.of(costs_.op_cost(o, choice, mode_)));
      }
      sum_.add_factor({o}, std::move(values));
    }
    for (TensorIndex t = 0; t < static_cast<int>(costs_.block().tensors.size()); ++t) {
      if (costs_.has_cost(t)) {
        add_tensor(t);
      }
    }
    return std::move(sum_);
  }

 private:
  int input_variable() const { return costs_.num_ops(); }
  int output_variable() const { return costs_.num_ops() + 1; }

  int domain_size(int variable) const {
    if (variable < costs_.num_ops()) {
      return static_cast<int>(domains_[at(variable)].size());
    }
    return static_cast<int>(variable == input_variable() ? costs_.inputs().size()
                                                         : costs_.outputs().size());
  }
  int choice_of(int variable, int value) const {
    return variable < costs_.num_ops() ? domains_[at(variable)][at(value)] : value;
  }

  void add_tensor(TensorIndex t) {
    const int producer = costs_.producer(t) < 0 ? input_variable() : costs_.producer(t);
    std::vector<int> scope{producer};
    for (const BlockCosts::TensorUse& use : costs_.uses(t)) {
      if (std::find(scope.begin(), scope.end(), use.op) == scope.end()) {
        scope.push_back(use.op);
      }
    }
    if (costs_.is_output(t)) {
      scope.push_back(output_variable());
    }
    std::size_t size = 1;
    for (const int variable : scope) {
      size *= at(domain_size(variable));
    }
    constexpr std::size_t kLargestExactTable = 6000;
    if (scope.size() <= 2 || size <= kLargestExactTable) {
      add_exact(t, scope, size);
    } else {
      add_shares(t, producer);
    }
  }

  void add_exact(TensorIndex t, const std::vector<int>& scope, std::size_t size) {
    std::vector<double> values;
    values.reserve(size);
    std::vector<int> digits(scope.size(), 0);
    std::vector<UseClassId> uses;
    for (std::size_t i = 0; i < size; ++i) {
      uses.clear();
      for (const BlockCosts::TensorUse& use : costs_.uses(t)) {
        const auto place = std::find(scope.begin(), scope.end(), use.op) - scope.begin();
        const int choice = choice_of(use.op, digits[static_cast<std::size_t>(place)]);
        uses.push_back(costs_.use_class(use.op, use.input, choice));
      }
      if (costs_.is_output(t)) {
        uses.push_back(costs_.output_class(digits.back()));
      }
      std::sort(uses.begin(), uses.end());
      const Closing closing =
          costs_.close(t, choice_of(scope[0], digits[0]), uses, mode_.recompute);
      values.push_back(closing.possible ? weights_.of(closing.cost) : kForbidden);
      for (std::size_t d = scope.size(); d-- > 0;) {
        if (++digits[d] < domain_size(scope[d])) {
          break;
        }
        digits[d] = 0;
      }
    }
    sum_.add_factor(scope, std::move(values));
  }

  void add_shares(TensorIndex t, int producer) {
    const auto add = [&](int user, auto class_of) {
      std::vector<double> values;
      for (int p = 0; p < domain_size(producer); ++p) {
        for (int u = 0; u < domain_size(user); ++u) {
          values.push_back(weighted(
              weights_,
              costs_.share(
                  t, choice_of(producer, p), class_of(choice_of(user, u)), mode_.recompute)));
        }
      }
      sum_.add_factor({producer, user}, std::move(values));
    };
    for (const BlockCosts::TensorUse& use : costs_.uses(t)) {
      add(use.op, [&](int choice) { return costs_.use_class(use.op, use.input, choice); });
    }
    if (costs_.is_output(t)) {
      add(output_variable(), [&](int output) { return costs_.output_class(output); });
    }
  }

  const BlockCosts& costs_;
  const Mode& mode_;
  const Weights& weights_;
  const Domains& domains_;
  Elimination sum_;
};

}  // namespace

Domains all_choices(const BlockCosts& costs) {
  Domains domains(at(costs.num_ops()));
  for (int o = 0; o < costs.num_ops(); ++o) {
    for (int c = 0; c < static_cast<int>(costs.choices(o).size()); ++c) {
      domains[at(o)].push_back(c);
    }
  }
  return domains;
}

Elimination relaxed_sum(const BlockCosts& costs,
                        const Mode& mode,
                        const Weights& weights,
                        const Domains& domains) {
  Elimination sum = FactorBuilder(costs, mode, weights, domains).build();
  sum.run({costs.num_ops(), costs.num_ops() + 1});
  return sum;
}

BlockBound bound_block(const BlockCosts& costs,
                       const std::vector<Mode>& modes,
                       const Weights& weights) {
  const int rows = static_cast<int>(costs.inputs().size());
  const int columns = static_cast<int>(costs.outputs().size());
  BlockBound bound{Matrix(rows, columns, kForbidden), std::vector<int>(at(rows * columns), -1)};
  if (!costs.is_possible()) {
    return bound;
  }
  const Domains domains = all_choices(costs);
  for (std::size_t m = 0; m < modes.size(); ++m) {
    const Elimination sum = relaxed_sum(costs, modes[m], weights, domains);
    for (std::size_t i = 0; i < bound.minimum.values.size(); ++i) {
      if (sum.minimum()[i] < bound.minimum.values[i]) {
        bound.minimum.values[i] = sum.minimum()[i];
        bound.mode[i] = static_cast<int>(m);
      }
    }
  }
  return bound;
}

std::optional<Option> minimiser(
    const BlockCosts& costs, const Mode& mode, const Weights& weights, int input, int output) {
  const Elimination sum = relaxed_sum(costs, mode, weights, all_choices(costs));
  std::vector<int> choices = sum.minimiser({input, output});
  choices.resize(at(costs.num_ops()));
  return make_option(costs, mode, input, output, choices);
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
