// shardwise report: a plan, or two side by side, as an HTML page.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/inputs.h"
#include "core/errors.h"
#include "files/atomic_file.h"
#include "report/html_report.h"
#include "simulate/simulate.h"

namespace shardwise {

namespace {

struct ReportFlags {
  std::vector<std::string> plans;
  std::string output = "report.html";
};

struct LoadedReport {
  LoadedPlan loaded;
  Simulation simulation;
  std::optional<Evaluation> evaluation;
};

LoadedReport load_report(const std::string& path) {
  LoadedReport report{load_plan(path), {}, {}};
  const Plan& plan = report.loaded.file.plan;
  const LoadedCluster& cluster = report.loaded.file.cluster;
  SimulationOptions options;
  options.timeline = SimulationOptions::Timeline::kRecord;
  report.simulation = simulate(plan, report.loaded.graph, cluster.cluster, *cluster.costs, options);
  if (traits_of(plan.schedule).has_cost_formula) {
    report.evaluation = evaluate(plan, report.loaded.graph, cluster.cluster, *cluster.costs);
  }
  return report;
}

std::string proof_of(const PlanPrediction& prediction) {
  std::string text = "Found by " + prediction.method + ".";
  if (!prediction.stop_reason.empty()) {
    text += " Search: " + prediction.stop_reason + ".";
  }
  if (prediction.lower_bound) {
    text += fmt::format(" No plan of the space searched is faster than {}.",
                        format_seconds(to_seconds(*prediction.lower_bound)));
  }
  return text;
}

int report_command(const ReportFlags& flags) {
  std::vector<LoadedReport> reports;
  for (const std::string& path : flags.plans) {
    reports.push_back(load_report(path));
  }
  std::vector<ReportedPlan> plans;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const LoadedReport& report = reports[i];
    plans.push_back({flags.plans[i],
                     report.loaded.model.model_type,
                     proof_of(report.loaded.file.prediction),
                     report.loaded.file.plan,
                     report.loaded.graph,
                     report.loaded.file.cluster.cluster,
                     report.simulation,
                     report.evaluation,
                     report.loaded.file.cluster.costs->provenance()});
  }
  write_file_atomically(flags.output, html_report(plans));
  fmt::print("wrote {}\n", flags.output);
  return kExitDone;
}

}  // namespace

void add_report_command(CLI::App& app, CommandRun& run) {
  CLI::App* command =
      app.add_subcommand("report", "one HTML page about a plan, or about two side by side");
  command->footer(
      "Examples: shardwise report plan.json -o report.html\n"
      "          shardwise report mine.json theirs.json -o report.html");
  const auto flags = std::make_shared<ReportFlags>();
  command->add_option("PLAN", flags->plans, "one plan file, or two")->required()->expected(1, 2);
  command->add_option("-o,--output", flags->output, "the page")->capture_default_str();
  command->callback([flags, &run] { run = [flags] { return report_command(*flags); }; });
}

}  // namespace shardwise
