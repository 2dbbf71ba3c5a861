// A block's weighted cost as a sum over discrete variables: what option_bound.cc and
// option_search.cc share. Variables: ops in order, then input layout, then output layout.
#pragma once

#include <vector>

#include "planner/option_search.h"

namespace shardwise::planning {

// Choices still considered, for each op.
using Domains = std::vector<std::vector<int>>;

Domains all_choices(const BlockCosts& costs);

// Kept: input and output layout. Values of an op's variable are positions in its domain.
Elimination relaxed_sum(const BlockCosts& costs,
                        const Mode& mode,
                        const Weights& weights,
                        const Domains& domains);

}  // namespace shardwise::planning
