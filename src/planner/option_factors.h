// A block's weighted cost as a sum over discrete variables: what bounds and the search for options
// share. Variables: ops in order, then input layout, then output layout.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <vector>

#include "planner/block_costs.h"
#include "planner/elimination.h"
#include "planner/option.h"

namespace shardwise::planning {

// Choices still considered, for each op.
using Domains = std::vector<std::vector<int>>;

Domains all_choices(const BlockCosts& costs);

// What a tensor costs for each value of the variables in its scope: forward and backward time in
// picoseconds (kForbidden: impossible) and kept bytes. Not more than the true cost; less only where
// several uses share a conversion and the tensor has too many users for one table.
struct TensorFactor {
  std::vector<int> scope;
  std::vector<double> time;
  std::vector<double> saved;
};

// The sum for any mode and weights. What does not depend on them is made once: tables for each way
// to recompute.
class BlockRelaxation {
 public:
  // Both must outlive it.
  BlockRelaxation(const BlockCosts& costs, Domains domains, EliminationPool& pool);

  // Kept: input and output layout. Values of an op's variable are positions in its domain. At most
  // the weighted cost of every option (TensorFactor). Valid until the next call for any relaxation
  // of the pool.
  const Elimination& sum(const Mode& mode, const Weights& weights);

 private:
  const std::vector<TensorFactor>& prepare(Recompute recompute);
  const std::vector<std::vector<Cost>>& op_costs(const Mode& mode);

  const BlockCosts& costs_;
  const Domains domains_;
  EliminationPool& pool_;
  std::array<std::optional<std::vector<TensorFactor>>, 3> tensors_;  // by way to recompute
  // Factors: ops, then tensors. Their scopes are the same for all ways to recompute.
  Elimination* sum_ = nullptr;                               // of the pool
  std::map<Mode, std::vector<std::vector<Cost>>> op_costs_;  // [op][position in its domain]
};

}  // namespace shardwise::planning
