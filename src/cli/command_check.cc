// shardwise check: verifies a plan and what it claims.
#include <fmt/format.h>

#include <memory>

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
  const CheckReport report =
      check_plan(loaded.file.plan,
                 loaded.graph,
                 loaded.file.cluster.cluster,
                 *loaded.file.cluster.costs,
                 {prediction.step_time, prediction.lower_bound, prediction.stage_memory});
  if (flags.json) {
    fmt::print(
        "{}",
        to_json_text({{"sound", report.violations.empty()}, {"violations", report.violations}}));
  } else if (report.violations.empty()) {
    fmt::print("{}: sound; valid for its model and cluster, fits, and takes the {} it claims\n",
               flags.plan,
               format_seconds(to_seconds(prediction.step_time)));
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
