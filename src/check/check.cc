#include "check/check.h"

#include <fmt/format.h>

namespace shardwise {

namespace {

// Devices that exist, and one type a stage.
std::vector<std::string> device_violations(const Plan& plan, const Cluster& cluster) {
  std::vector<std::string> violations;
  for (int s = 0; s < plan.num_stages(); ++s) {
    const std::vector<int>& devices = plan.stages[static_cast<std::size_t>(s)].devices;
    for (const int device : devices) {
      if (device >= cluster.num_devices()) {
        violations.push_back(fmt::format("stage {}: device {} does not exist, the cluster has {}",
                                         s,
                                         device,
                                         cluster.num_devices()));
        return violations;
      }
      if (cluster.type_of(device) != cluster.type_of(devices.front())) {
        violations.push_back(fmt::format(
            "stage {}: devices {} and {} are of different types", s, devices.front(), device));
      }
    }
  }
  return violations;
}

void check_memory(const Evaluation& evaluation,
                  const PlanClaims& claims,
                  std::vector<std::string>& violations) {
  for (std::size_t s = 0; s < evaluation.stage_memory.size(); ++s) {
    const StageMemory& memory = evaluation.stage_memory[s];
    if (!memory.fits()) {
      violations.push_back(fmt::format("stage {}: needs {} of {} on its fullest device",
                                       s,
                                       format_bytes(memory.total()),
                                       format_bytes(memory.limit)));
    }
    if (!claims.stage_memory.empty() &&
        (s >= claims.stage_memory.size() || claims.stage_memory[s] != memory.total())) {
      violations.push_back(fmt::format("stage {}: memory is {} bytes, the plan says {}",
                                       s,
                                       memory.total().count,
                                       s < claims.stage_memory.size()
                                           ? fmt::format("{}", claims.stage_memory[s].count)
                                           : "nothing"));
    }
  }
}

void check_time(const Evaluation& evaluation,
                const PlanClaims& claims,
                std::vector<std::string>& violations) {
  if (claims.step_time && *claims.step_time != evaluation.step_time) {
    violations.push_back(fmt::format("the step takes {} ps, the plan says {}",
                                     evaluation.step_time.count,
                                     claims.step_time->count));
  }
  if (claims.lower_bound && *claims.lower_bound > evaluation.step_time) {
    violations.push_back(fmt::format("the lower bound of {} ps lies above the step time of {} ps",
                                     claims.lower_bound->count,
                                     evaluation.step_time.count));
  }
}

}  // namespace

CheckReport check_plan(const Plan& plan,
                       const Graph& graph,
                       const Cluster& cluster,
                       const CostTable& costs,
                       const PlanClaims& claims) {
  CheckReport report;
  report.violations = plan_violations(plan, graph);
  const std::vector<std::string> devices = device_violations(plan, cluster);
  report.violations.insert(report.violations.end(), devices.begin(), devices.end());
  if (!report.violations.empty()) {
    return report;
  }
  report.evaluation = evaluate(plan, graph, cluster, costs);
  check_memory(*report.evaluation, claims, report.violations);
  check_time(*report.evaluation, claims, report.violations);
  return report;
}

}  // namespace shardwise
