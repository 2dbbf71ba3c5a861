#include "check/check.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

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
  if (claims.is_optimal && !claims.lower_bound) {
    violations.emplace_back("the plan claims to be optimal and gives no lower bound");
  }
  if (claims.is_optimal && claims.lower_bound &&
      static_cast<double>(claims.lower_bound->count) <
          std::floor(static_cast<double>(evaluation.step_time.count) / (1 + claims.gap))) {
    violations.push_back(
        fmt::format("the plan claims to be optimal within {} %; its lower bound of {} ps lies "
                    "further below its step time of {} ps",
                    100 * claims.gap,
                    claims.lower_bound->count,
                    evaluation.step_time.count));
  }
  if (claims.lower_bound && *claims.lower_bound > evaluation.step_time) {
    violations.push_back(fmt::format("the lower bound of {} ps lies above the step time of {} ps",
                                     claims.lower_bound->count,
                                     evaluation.step_time.count));
  }
}

void check_certificate(const BoundCertificate& proved,
                       const PlanClaims& claims,
                       const Evaluation& evaluation,
                       std::vector<std::string>& violations) {
  std::map<int, Picoseconds> claimed;
  for (const CountBound& one : claims.certificate) {
    claimed[one.num_microbatches] = one.bound;
  }
  for (const CountBound& one : proved.counts) {
    const auto found = claimed.find(one.num_microbatches);
    if (found == claimed.end()) {
      violations.push_back(
          fmt::format("certificate: no bound for {} micro-batches", one.num_microbatches));
      continue;
    }
    if (found->second > one.bound) {
      violations.push_back(
          fmt::format("certificate: a bound of {} ps for {} micro-batches, {} ps are proved",
                      found->second.count,
                      one.num_microbatches,
                      one.bound.count));
    }
    claimed.erase(found);
  }
  for (const auto& [count, bound] : claimed) {
    violations.push_back(fmt::format(
        "certificate: a bound for {} micro-batches, which do not divide the batch", count));
  }
  // The two judges contradict each other: one of them is wrong.
  if (proved.lower_bound() > evaluation.step_time) {
    violations.push_back(
        fmt::format("certificate: no plan takes less than {} ps, this one takes {}",
                    proved.lower_bound().count,
                    evaluation.step_time.count));
  }
}

}  // namespace

CheckReport check_plan(const Plan& plan,
                       const MicrobatchGraph& build,
                       const Cluster& cluster,
                       const CostTable& costs,
                       const PlanClaims& claims) {
  CheckReport report;
  const Graph graph = build(plan.microbatch());
  report.violations = plan_violations(plan, graph);
  const std::vector<std::string> devices = device_violations(plan, cluster);
  report.violations.insert(report.violations.end(), devices.begin(), devices.end());
  if (!report.violations.empty()) {
    return report;
  }
  report.evaluation = evaluate(plan, graph, cluster, costs);
  check_memory(*report.evaluation, claims, report.violations);
  check_time(*report.evaluation, claims, report.violations);
  if (!claims.certificate.empty()) {
    report.certificate = certify_bound(build, plan.batch, plan.precision, cluster, costs);
    check_certificate(*report.certificate, claims, *report.evaluation, report.violations);
  }
  return report;
}

}  // namespace shardwise
