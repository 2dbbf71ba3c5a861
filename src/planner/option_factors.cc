#include "planner/option_factors.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Tables of all tensors for one way to recompute.
class FactorBuilder {
 public:
  FactorBuilder(const BlockCosts& costs, Recompute recompute, const Domains& domains)
      : costs_(costs), recompute_(recompute), domains_(domains) {}

  std::vector<TensorFactor> build() {
    for (TensorIndex t = 0; t < static_cast<int>(costs_.block().tensors.size()); ++t) {
      if (costs_.has_cost(t)) {
        add_tensor(t);
      }
    }
    return std::move(factors_);
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
    TensorFactor factor;
    factor.scope = scope;
    factor.time.reserve(size);
    factor.saved.reserve(size);
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
      const Closing closing = costs_.close(t, choice_of(scope[0], digits[0]), uses, recompute_);
      const auto time = static_cast<double>(closing.cost.time());
      factor.time.push_back(closing.possible ? time : kForbidden);
      factor.saved.push_back(static_cast<double>(closing.cost.saved));
      for (std::size_t d = scope.size(); d-- > 0;) {
        if (++digits[d] < domain_size(scope[d])) {
          break;
        }
        digits[d] = 0;
      }
    }
    factors_.push_back(std::move(factor));
  }

  void add_shares(TensorIndex t, int producer) {
    const auto add = [&](int user, auto class_of) {
      TensorFactor factor;
      factor.scope = {producer, user};
      for (int p = 0; p < domain_size(producer); ++p) {
        for (int u = 0; u < domain_size(user); ++u) {
          const BlockCosts::Share share =
              costs_.share(t, choice_of(producer, p), class_of(choice_of(user, u)), recompute_);
          factor.time.push_back(share.possible ? share.forward + share.backward : kForbidden);
          factor.saved.push_back(share.saved);
        }
      }
      factors_.push_back(std::move(factor));
    };
    for (const BlockCosts::TensorUse& use : costs_.uses(t)) {
      add(use.op, [&](int choice) { return costs_.use_class(use.op, use.input, choice); });
    }
    if (costs_.is_output(t)) {
      add(output_variable(), [&](int output) { return costs_.output_class(output); });
    }
  }

  const BlockCosts& costs_;
  const Recompute recompute_;
  const Domains& domains_;
  std::vector<TensorFactor> factors_;
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

BlockRelaxation::BlockRelaxation(const BlockCosts& costs, EliminationPool& pool)
    : costs_(costs),
      domains_(all_choices(costs)),
      pool_(pool),
      tensors_(costs.activations().tensor_factors) {}

BlockRelaxation::BlockRelaxation(const BlockCosts& costs, Domains domains, EliminationPool& pool)
    : costs_(costs), domains_(std::move(domains)), pool_(pool), tensors_(own_tensors_) {}

const std::vector<TensorFactor>& BlockRelaxation::prepare(Recompute recompute) {
  std::optional<std::vector<TensorFactor>>& known = tensors_[static_cast<std::size_t>(recompute)];
  if (!known) {
    known = FactorBuilder(costs_, recompute, domains_).build();
  }
  if (sum_ != nullptr) {
    return *known;
  }
  EliminationPool::Structure structure;
  structure.kept = {costs_.num_ops(), costs_.num_ops() + 1};
  for (int o = 0; o < costs_.num_ops(); ++o) {
    structure.sizes.push_back(static_cast<int>(domains_[at(o)].size()));
    structure.scopes.push_back({o});
  }
  structure.sizes.push_back(static_cast<int>(costs_.inputs().size()));
  structure.sizes.push_back(static_cast<int>(costs_.outputs().size()));
  for (const TensorFactor& tensor : *known) {
    structure.scopes.push_back(tensor.scope);
  }
  sum_ = &pool_.with(structure);
  return *known;
}

const std::vector<std::vector<Cost>>& BlockRelaxation::op_costs(const Mode& mode) {
  const auto [entry, is_new] = op_costs_.try_emplace(mode);
  if (is_new) {
    for (int o = 0; o < costs_.num_ops(); ++o) {
      entry->second.emplace_back();
      for (const int choice : domains_[at(o)]) {
        entry->second.back().push_back(costs_.op_cost(o, choice, mode));
      }
    }
  }
  return entry->second;
}

double BlockRelaxation::least_excess(const Mode& a, const Mode& b, const Weights& weights) {
  double excess = 0;
  const std::vector<std::vector<Cost>>& ops_of_a = op_costs(a);
  const std::vector<std::vector<Cost>>& ops_of_b = op_costs(b);
  for (std::size_t o = 0; o < ops_of_a.size(); ++o) {
    double least = kForbidden;
    for (std::size_t c = 0; c < ops_of_a[o].size(); ++c) {
      least = std::min(least, weights.of(ops_of_b[o][c]) - weights.of(ops_of_a[o][c]));
    }
    excess += least;
  }
  return a.recompute == b.recompute
             ? excess
             : excess + least_excess_of_tensors(a.recompute, b.recompute, weights);
}

double BlockRelaxation::least_excess_of_tensors(Recompute a, Recompute b, const Weights& weights) {
  if (weights != excess_weights_) {
    excess_weights_ = weights;
    excess_of_tensors_.clear();
  }
  const auto [known, is_new] = excess_of_tensors_.try_emplace({a, b}, 0);
  if (!is_new) {
    return known->second;
  }
  const std::vector<TensorFactor>& tensors_of_a = prepare(a);
  const std::vector<TensorFactor>& tensors_of_b = prepare(b);
  const double per_byte = weights.memory * weights.in_flight;
  double excess = 0;
  for (std::size_t t = 0; t < tensors_of_a.size(); ++t) {
    const TensorFactor& of_a = tensors_of_a[t];
    const TensorFactor& of_b = tensors_of_b[t];
    double least = kForbidden;
    for (std::size_t i = 0; i < of_a.time.size(); ++i) {
      if (of_b.time[i] < kForbidden) {
        least = std::min(least,
                         weights.time * (of_b.time[i] - of_a.time[i]) +
                             per_byte * (of_b.saved[i] - of_a.saved[i]));
      }
    }
    excess += least;
  }
  known->second = excess;
  return excess;
}

const Elimination& BlockRelaxation::sum(const Mode& mode, const Weights& weights) {
  const std::vector<TensorFactor>& tensors = prepare(mode.recompute);
  const std::vector<std::vector<Cost>>& ops = op_costs(mode);
  int factor = 0;
  for (const std::vector<Cost>& op : ops) {
    std::transform(
        op.begin(), op.end(), sum_->factor_values(factor++).begin(), [&](const Cost& cost) {
          return weights.of(cost);
        });
  }
  const double per_byte = weights.memory * weights.in_flight;
  for (const TensorFactor& tensor : tensors) {
    std::vector<double>& values = sum_->factor_values(factor++);
    SHARDWISE_CHECK(values.size() == tensor.time.size(), "scopes do not depend on recomputation");
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = tensor.time[i] == kForbidden
                      ? kForbidden
                      : weights.time * tensor.time[i] + per_byte * tensor.saved[i];
    }
  }
  sum_->run_again();
  return *sum_;
}

}  // namespace shardwise::planning
