// A block's weighted cost as a sum over discrete variables: what bounds and the search for options
// share. Variables: ops in order, then input layout, then output layout.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "planner/block_costs.h"
#include "planner/elimination.h"
#include "planner/option.h"

namespace shardwise::planning {

// Choices still considered, for each op.
using Domains = std::vector<std::vector<int>>;

Domains all_choices(const BlockCosts& costs);

using TensorFactor = BlockActivations::TensorFactor;

// The sum for any mode and weights. What does not depend on them is made once: tables for each way
// to recompute.
class BlockRelaxation {
 public:
  // Of all choices: what tensors cost is kept with the block's activations, for all who share them.
  // Both must outlive it.
  BlockRelaxation(const BlockCosts& costs, EliminationPool& pool);
  // Of fewer choices.
  BlockRelaxation(const BlockCosts& costs, Domains domains, EliminationPool& pool);

  // Kept: input and output layout. Values of an op's variable are positions in its domain. At most
  // the weighted cost of every option (TensorFactor). Valid until the next call for any relaxation
  // of the pool.
  const Elimination& sum(const Mode& mode, const Weights& weights);
  // At most what any entry of sum(b) exceeds the same entry of sum(a) by: the factors' least
  // differences, summed.
  double least_excess(const Mode& a, const Mode& b, const Weights& weights);

 private:
  const std::vector<TensorFactor>& prepare(Recompute recompute);
  const std::vector<std::vector<Cost>>& op_costs(const Mode& mode);
  double least_excess_of_tensors(Recompute a, Recompute b, const Weights& weights);

  const BlockCosts& costs_;
  const Domains domains_;
  EliminationPool& pool_;
  std::array<std::optional<std::vector<TensorFactor>>, 3> own_tensors_;
  std::array<std::optional<std::vector<TensorFactor>>, 3>& tensors_;  // by way to recompute
  // Factors: ops, then tensors. Their scopes are the same for all ways to recompute.
  Elimination* sum_ = nullptr;                               // of the pool
  std::map<Mode, std::vector<std::vector<Cost>>> op_costs_;  // [op][position in its domain]
  Weights excess_weights_;                                   // that these are for:
  std::map<std::pair<Recompute, Recompute>, double> excess_of_tensors_;
};

}  // namespace shardwise::planning
