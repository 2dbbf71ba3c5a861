#include "planner/graph_options.h"

#include <utility>

namespace shardwise::planning {

GraphOptions::GraphOptions(const BlockCosts& costs,
                           std::vector<Mode> modes,
                           std::vector<Mode> fastest_modes,
                           bool may_save_output)
    : costs_(costs),
      modes_(std::move(modes)),
      fastest_modes_(std::move(fastest_modes)),
      may_save_output_(may_save_output) {}

BlockBound GraphOptions::bound(const Weights& weights) {
  return bound_block(costs_, modes_for(weights.memory != 0), weights);
}

std::optional<Option> GraphOptions::minimiser(const Weights& weights,
                                              int mode,
                                              int input,
                                              int output) {
  const std::vector<Mode>& modes = modes_for(weights.memory != 0);
  return planning::minimiser(costs_, modes[static_cast<std::size_t>(mode)], weights, input, output);
}

OptionSet GraphOptions::find(const Weights& weights,
                             const Matrix& limit,
                             const Criteria& criteria) {
  return find_options(costs_, modes_for(criteria.memory), weights, limit, criteria);
}

std::int64_t GraphOptions::exact_transient(const Option& option) const {
  return planning::exact_transient(costs_, option);
}

}  // namespace shardwise::planning
