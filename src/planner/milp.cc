#include "planner/milp.h"

#include <algorithm>
#include <cmath>

#include "core/errors.h"

#if SHARDWISE_HAS_HIGHS
#include <interfaces/highs_c_api.h>
#endif

namespace shardwise::planning {

int Milp::add_variable(double cost, double lower, double upper, Domain domain) {
  costs_.push_back(cost);
  lower_.push_back(lower);
  upper_.push_back(upper);
  integrality_.push_back(domain == Domain::kInteger ? 1 : 0);
  return num_variables() - 1;
}

void Milp::add_row(double lower, const std::vector<Term>& terms, double upper) {
  row_lower_.push_back(lower);
  row_upper_.push_back(upper);
  row_starts_.push_back(static_cast<int>(columns_.size()));
  for (const Term& term : terms) {
    columns_.push_back(term.variable);
    factors_.push_back(term.factor);
  }
}

#if SHARDWISE_HAS_HIGHS

namespace {

struct Highs {
  void* handle = Highs_create();
  Highs() = default;
  Highs(const Highs&) = delete;
  Highs& operator=(const Highs&) = delete;
  ~Highs() { Highs_destroy(handle); }
};

void require(HighsInt status, const char* what) {
  if (status == kHighsStatusError) {
    throw RuntimeFailure(std::string("HiGHS: ") + what + " failed");
  }
}

}  // namespace

Milp::Result Milp::solve(Seconds time_limit) const {
  const Highs highs;
  require(Highs_setBoolOptionValue(highs.handle, "output_flag", 0), "setting an option");
  require(Highs_setIntOptionValue(highs.handle, "threads", 1), "setting an option");
  require(Highs_setDoubleOptionValue(highs.handle, "mip_rel_gap", 0), "setting an option");
  require(Highs_setDoubleOptionValue(highs.handle, "mip_abs_gap", 0), "setting an option");
  require(Highs_setDoubleOptionValue(highs.handle, "mip_feasibility_tolerance", 1e-9),
          "setting an option");
  require(Highs_setDoubleOptionValue(highs.handle, "time_limit", time_limit.count),
          "setting an option");
  const std::vector<HighsInt> integrality(integrality_.begin(), integrality_.end());
  const std::vector<HighsInt> starts(row_starts_.begin(), row_starts_.end());
  const std::vector<HighsInt> columns(columns_.begin(), columns_.end());
  require(Highs_passMip(highs.handle,
                        num_variables(),
                        num_rows(),
                        static_cast<HighsInt>(columns.size()),
                        kHighsMatrixFormatRowwise,
                        kHighsObjSenseMinimize,
                        0,
                        costs_.data(),
                        lower_.data(),
                        upper_.data(),
                        row_lower_.data(),
                        row_upper_.data(),
                        starts.data(),
                        columns.data(),
                        factors_.data(),
                        integrality.data()),
          "passing the programme");
  require(Highs_run(highs.handle), "the run");

  Result result;
  const HighsInt status = Highs_getModelStatus(highs.handle);
  if (status == kHighsModelStatusInfeasible || status == kHighsModelStatusUnboundedOrInfeasible) {
    return result;
  }
  HighsInt solution_status = 0;
  Highs_getIntInfoValue(highs.handle, "primal_solution_status", &solution_status);
  if (solution_status == kHighsSolutionStatusFeasible) {
    result.values.resize(costs_.size());
    std::vector<double> column_duals(costs_.size());
    std::vector<double> rows(row_lower_.size());
    std::vector<double> row_duals(row_lower_.size());
    Highs_getSolution(
        highs.handle, result.values.data(), column_duals.data(), rows.data(), row_duals.data());
    result.objective = Highs_getObjectiveValue(highs.handle);
  }
  Highs_getDoubleInfoValue(highs.handle, "mip_dual_bound", &result.bound);
  if (status == kHighsModelStatusOptimal) {
    result.stop_reason = StopReason::kOptimal;
  } else {
    result.stop_reason = result.values.empty() ? StopReason::kLimitReached : StopReason::kFeasible;
  }
  return result;
}

#else

Milp::Result Milp::solve(Seconds) const {
  throw InputError("",
                   "this build has no HiGHS; install the Python package highsbox and configure");
}

#endif

}  // namespace shardwise::planning
