// Micro-batch counts that a request asks for.
#pragma once

#include <vector>

#include "planner/planner.h"

namespace shardwise::planning {

// Ascending, each once. Throws InputError if the batch, the sequence or a count is below one, or a
// count does not divide the batch.
std::vector<int> microbatch_counts(const PlanRequest& request);

}  // namespace shardwise::planning
