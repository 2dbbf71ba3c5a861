// Options of one block on one stage shape: complete ways to run a layer there. Two questions:
//   - the least weighted cost between each pair of boundary layouts (a bound, fast);
//   - all options within a limit of weighted cost that no other option beats.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "planner/block_costs.h"
#include "planner/elimination.h"
#include "planner/option.h"
#include "planner/option_factors.h"

namespace shardwise::planning {

// The plan of a layer that runs the option.
LayerPlan layer_plan_of(const BlockCosts& costs, const Option& option);
// Peak of temporary memory, from the layer's body.
std::int64_t exact_transient(const BlockCosts& costs, const Option& option);
// Sums up the costs of a complete assignment; nothing if padding forbids it.
std::optional<Option> make_option(const BlockCosts& costs,
                                  const Mode& mode,
                                  int input,
                                  int output,
                                  const std::vector<int>& choices);

// `relaxation`: of all choices of `costs`. A bound: conversions that several uses share count in
// equal parts (exact where they agree).
BlockBound bound_block(const BlockCosts& costs,
                       BlockRelaxation& relaxation,
                       const std::vector<Mode>& modes,
                       const Weights& weights);
// Choices of an option that reaches the bound, but for what sharing costs.
std::vector<int> least_choices(const BlockCosts& costs,
                               BlockRelaxation& relaxation,
                               const Mode& mode,
                               const Weights& weights,
                               int input,
                               int output);

// All options with weighted cost <= limit(input, output) that no other beats.
OptionSet find_options(const BlockCosts& costs,
                       BlockRelaxation& relaxation,
                       const std::vector<Mode>& modes,
                       const Weights& weights,
                       const Matrix& limit,
                       const Criteria& criteria);

}  // namespace shardwise::planning
