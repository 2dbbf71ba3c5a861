// How many layers of a stage take each option, when layers of one group are alike and only their
// number counts: a multiple-choice knapsack over counts, solved exactly.
//
//   minimise  max_p (slope_p C + weight_p D + constant_p)
//   with      C = sum n_k c_k, D = sum n_k d_k, sum n_k m_k <= budget, sum over a group n_k = size
//
// c_k, d_k >= 0 times of option k (any unit), m_k its memory, p the pieces of the objective.
//
// Method: for each piece the LP relaxation, solved greedily along the lower hulls of the groups
// (Sinha and Zoltners, Operations Research 27, 1979), gives a multiplier of the budget; then counts
// are enumerated as long as every piece's LP bound plus the reduced costs of what was chosen stays
// below the best found. The reduced costs leave a handful of counts to try.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace shardwise::planning {

struct CountOption {
  double c = 0;
  double d = 0;
  std::int64_t memory = 0;
};

struct CountGroup {
  int size = 0;
  std::vector<CountOption> options;
};

// A piece of the objective; slope, weight >= 0.
struct CountPiece {
  double slope = 1;
  double weight = 0;
  double constant = 0;
};

struct CountProblem {
  std::vector<CountGroup> groups;
  std::int64_t budget = 0;
  std::vector<CountPiece> pieces;
};

struct CountSolution {
  double value = 0;
  double c = 0;
  double d = 0;
  std::vector<std::vector<int>> counts;  // [group][option]
};

// The LP bound: no solution is below it. Nothing if even the smallest memory is over the budget.
std::optional<double> count_bound(const CountProblem& problem);

// The best solution below `cutoff`, or nothing if there is none. Deterministic: of equal values the
// first in the order of the enumeration.
std::optional<CountSolution> solve_counts(const CountProblem& problem, double cutoff);

// Some solution with a value of at most `limit`, not the best. One piece only.
//
// Method: the minimal core (Pisinger, European Journal of Operational Research 83, 1995): from the
// LP solution outwards, layers that would most cheaply change their option first; states are
// undominated (memory, cost) pairs, each bounded by the cheapest change still to come.
struct CountAnswer {
  std::optional<CountSolution> solution;
  bool is_proved = true;  // false: none was found within the limit of states
  double relaxed = 0;     // no solution is below; infinite if none fits the budget
};
CountAnswer find_counts_within(const CountProblem& problem, double limit);

}  // namespace shardwise::planning
