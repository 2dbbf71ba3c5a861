#include "planner/graph_options.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

namespace shardwise::planning {

GraphOptions::GraphOptions(const BlockCosts& costs,
                           EliminationPool& pool,
                           std::vector<Mode> modes,
                           std::vector<Mode> fastest_modes,
                           bool may_save_output)
    : costs_(costs),
      relaxation_(costs, pool),
      modes_(std::move(modes)),
      fastest_modes_(std::move(fastest_modes)),
      may_save_output_(may_save_output) {}

BlockBound GraphOptions::bound(const Weights& weights) {
  const auto [entry, is_new] = bounds_.try_emplace(weights);
  if (is_new) {
    entry->second = bound_block(costs_, relaxation_, modes_for(weights.memory != 0), weights);
  }
  return entry->second;
}

std::optional<Option> GraphOptions::minimiser(const Weights& weights,
                                              int mode,
                                              int input,
                                              int output) {
  const Mode& chosen = modes_for(weights.memory != 0)[static_cast<std::size_t>(mode)];
  std::vector<int> choices = least_choices(costs_, relaxation_, chosen, weights, input, output);
  // Many weights have the same minimiser, and its transient memory takes long to find.
  const auto [entry, is_new] = minimisers_.try_emplace({chosen, input, output, std::move(choices)});
  if (is_new) {
    entry->second = make_option(costs_, chosen, input, output, std::get<3>(entry->first));
  }
  return entry->second;
}

OptionSet GraphOptions::find(const Weights& weights,
                             const Matrix& limit,
                             const Criteria& criteria) {
  return find_options(costs_, relaxation_, modes_for(criteria.memory), weights, limit, criteria);
}

// Most that ops behind `op` save, and have freed when its backward computes.
std::int64_t GraphOptions::most_saved_behind(int op) const {
  std::int64_t most = 0;
  for (int o = op + 1; o < costs_.num_ops(); ++o) {
    std::int64_t statistics = 0;
    for (int c = 0; c < static_cast<int>(costs_.choices(o).size()); ++c) {
      statistics = std::max(statistics, costs_.statistics_bytes(o, c));
    }
    most += statistics;
  }
  for (TensorIndex t = 0; t < static_cast<int>(costs_.block().tensors.size()); ++t) {
    if (!costs_.has_cost(t)) {
      continue;
    }
    std::int64_t times = costs_.producer(t) > op && costs_.producer_saves(t) ? 1 : 0;
    for (const BlockCosts::TensorUse& use : costs_.uses(t)) {
      times += use.op > op && costs_.is_needed_by(t, use) ? 1 : 0;
    }
    most += times * costs_.most_bytes(t);
  }
  return most;
}

// While an op's backward computes, its workspace, the gradients of its results and the gradients of
// its inputs are alive: a part of what option_search.cc counts.
std::int64_t GraphOptions::least_transient() {
  if (least_transient_ >= 0) {
    return least_transient_;
  }
  least_transient_ = 0;
  for (int o = 0; o < costs_.num_ops(); ++o) {
    const Op& op = costs_.block().ops[static_cast<std::size_t>(o)];
    if (op.kind == OpKind::kAdd || costs_.choices(o).empty()) {
      continue;
    }
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (int c = 0; c < static_cast<int>(costs_.choices(o).size()); ++c) {
      std::int64_t bytes = costs_.workspace(o, c, false);
      for (const Operand& output : op.outputs) {
        bytes +=
            costs_.has_cost(output.tensor) ? costs_.produced_gradient_bytes(output.tensor, c) : 0;
      }
      std::set<TensorIndex> seen;
      for (int i = 0; i < static_cast<int>(op.inputs.size()); ++i) {
        const TensorIndex tensor = op.inputs[static_cast<std::size_t>(i)].tensor;
        if (costs_.has_cost(tensor) && seen.insert(tensor).second) {
          bytes += costs_.gradient_bytes(tensor, costs_.use_class(o, i, c));
        }
      }
      least = std::min(least, bytes);
    }
    least_transient_ = std::max(least_transient_, least - most_saved_behind(o));
  }
  return least_transient_;
}

std::int64_t GraphOptions::exact_transient(const Option& option) const {
  return planning::exact_transient(costs_, option);
}

}  // namespace shardwise::planning
