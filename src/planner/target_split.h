// The best split of a row of layers among stages whose layers are decided.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace shardwise::planning {

// What a stage adds to the step (docs/cost_model.md, "Step time"). The period is the sum of the two
// largest ones: forward and backward of gpipe; other schedules have one.
struct SplitCost {
  std::int64_t sum = 0;
  std::int64_t first_period = 0;
  std::int64_t second_period = 0;
  std::int64_t per_step = 0;
};

struct SplitProblem {
  int num_layers = 1;
  int num_stages = 1;
  // Of layers [begin, end) on a stage; nothing: not allowed, or does not fit.
  std::function<std::optional<SplitCost>(int stage, int begin, int end)> cost;
  // Step time from the sum over stages and the largest of each other part; monotone in all.
  std::function<std::int64_t(const SplitCost& total)> step;
};

struct Split {
  std::int64_t step = 0;
  std::vector<int> counts;  // layers of each stage
};

// The split of least step time below `cutoff`, every stage at least one layer; nothing if there is
// none. Exact: a dynamic programme over (stages, layers) that keeps what no other beats. Ties: the
// first in the order of the programme, so equal inputs give equal splits.
std::optional<Split> best_split(const SplitProblem& problem, std::int64_t cutoff);

}  // namespace shardwise::planning
