// shardwise check: verifies a plan and what it claims.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "check/check.h"
#include "cli/command.h"
#include "cli/inputs.h"
#include "files/json_writer.h"

namespace shardwise {

namespace {

struct CheckFlags {
  std::string plan;
  bool json = false;
};

int check_command(const CheckFlags& flags) {
  const LoadedPlan loaded = load_plan(flags.plan);
  const PlanPrediction& prediction = loaded.file.prediction;
  PlanClaims claims{prediction.step_time,
                    prediction.lower_bound,
                    prediction.stage_memory,
                    prediction.stop_reason == "optimal",
                    prediction.gap,
                    {}};
  for (const CertifiedBound& one : prediction.certificate) {
    claims.certificate.push_back({one.num_microbatches, one.bound});
  }
  const Plan& plan = loaded.file.plan;
  const MicrobatchGraph build = [&](std::int64_t microbatch) {
    return build_graph(loaded.model, microbatch, plan.sequence);
  };
  const CheckReport report =
      check_plan(plan, build, loaded.file.cluster.cluster, *loaded.file.cluster.costs, claims);
  std::optional<double> below;  // how far the certificate's bound lies below the step time
  if (report.certificate) {
    below = 1 - to_seconds(report.certificate->lower_bound()).count /
                    to_seconds(report.evaluation->step_time).count;
  }
  if (flags.json) {
    nlohmann::ordered_json json = {{"sound", report.violations.empty()},
                                   {"violations", report.violations}};
    if (below) {
      json["certified_lower_bound_s"] = to_seconds(report.certificate->lower_bound()).count;
      json["certified_gap"] = *below;
    }
    fmt::print("{}", to_json_text(json));
  } else if (report.violations.empty()) {
    fmt::print("{}: sound; valid for its model and cluster, fits, and takes the {} it claims\n",
               flags.plan,
               format_seconds(to_seconds(prediction.step_time)));
    if (below) {
      fmt::print("proved without the planner: no plan takes less than {}, {:.2f} % below it\n",
                 format_seconds(to_seconds(report.certificate->lower_bound())),
                 100 * *below);
    }
  }
  for (const std::string& violation : report.violations) {
    fmt::print(stderr, "{}: {}\n", flags.plan, violation);
  }
  return report.violations.empty() ? kExitDone : kExitInfeasible;
}

}  // namespace

void add_check_command(CLI::App& app, CommandRun& run) {
  CLI::App* command =
      app.add_subcommand("check", "verify that a plan is valid, fits and costs what it claims");
  command->footer("Example: shardwise check plan.json\nExit code 1: a claim does not hold.");
  const auto flags = std::make_shared<CheckFlags>();
  command->add_option("PLAN", flags->plan, "plan file")->required();
  command->add_flag("--json", flags->json, "print one JSON document");
  command->callback([flags, &run] { run = [flags] { return check_command(*flags); }; });
}

}  // namespace shardwise
