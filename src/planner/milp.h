// A mixed integer linear programme, and HiGHS to solve it: an independent check and a rival, never
// part of the planner's own search.
#pragma once

#include <optional>
#include <vector>

#include "core/units.h"
#include "planner/planner.h"

namespace shardwise::planning {

class Milp {
 public:
  static constexpr double kInfinity = 1e30;
  enum class Domain { kContinuous, kInteger };

  // A new variable; its index.
  int add_variable(double cost, double lower, double upper, Domain domain);
  int add_binary(double cost) { return add_variable(cost, 0, 1, Domain::kInteger); }
  struct Term {
    int variable = 0;
    double factor = 1;
  };
  // lower <= sum of terms <= upper. A variable may stand in a row once.
  void add_row(double lower, const std::vector<Term>& terms, double upper);

  int num_variables() const { return static_cast<int>(costs_.size()); }
  int num_rows() const { return static_cast<int>(row_lower_.size()); }

  struct Result {
    StopReason stop_reason = StopReason::kInfeasible;
    std::vector<double> values;  // empty if nothing was found
    double objective = 0;
    double bound = 0;  // proved
  };
  // Minimises the costs, with one thread, to gap 0 or until the limit. Throws InputError in a build
  // without HiGHS, RuntimeFailure if HiGHS fails.
  Result solve(Seconds time_limit) const;

 private:
  std::vector<double> costs_;
  std::vector<double> lower_;
  std::vector<double> upper_;
  std::vector<int> integrality_;
  std::vector<double> row_lower_;
  std::vector<double> row_upper_;
  std::vector<int> row_starts_;
  std::vector<int> columns_;
  std::vector<double> factors_;
};

}  // namespace shardwise::planning
