// shardwise evaluate: cost and memory account of any plan.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/sailor_evaluation.h"
#include "core/errors.h"
#include "files/json_writer.h"
#include "report/plan_report.h"

namespace shardwise {

namespace {

struct EvaluateFlags {
  std::string plan_or_model;
  std::string cluster;
  std::string layout;
  std::int64_t batch = 0;
  std::int64_t sequence = 0;
  std::string precision;  // empty: the cluster's own
  std::string model_type;
  std::string output;
  bool json = false;
  SailorFlags sailor;
};

struct Evaluated {
  PlanFile file;
  Graph graph;
  Evaluation evaluation;
};

Evaluated evaluate_plan_file(const EvaluateFlags& flags) {
  if (!flags.layout.empty() || flags.batch != 0 || flags.sequence != 0) {
    throw InputError("evaluate",
                     "--layout, --batch and --sequence go with MODEL CLUSTER; a PLAN "
                     "has its own");
  }
  LoadedPlan loaded = load_plan(flags.plan_or_model);
  Evaluation evaluation = evaluate(
      loaded.file.plan, loaded.graph, loaded.file.cluster.cluster, *loaded.file.cluster.costs);
  return {std::move(loaded.file), std::move(loaded.graph), std::move(evaluation)};
}

Evaluated evaluate_layout(const EvaluateFlags& flags) {
  if (flags.layout.empty() || flags.batch < 1 || flags.sequence < 1) {
    throw InputError("evaluate",
                     "MODEL CLUSTER needs --layout, --batch and --sequence, such as "
                     "--layout \"tp=2 dp=2\" --batch 16 --sequence 256");
  }
  const Problem problem = load_problem({flags.plan_or_model,
                                        flags.model_type,
                                        flags.cluster,
                                        flags.batch,
                                        flags.sequence,
                                        flags.precision});
  const UniformLayout layout = parse_uniform_layout(flags.layout, "--layout");
  const Cluster& cluster = problem.cluster.cluster;
  if (layout.world() > cluster.num_devices()) {
    throw InputError("--layout",
                     fmt::format("\"{}\" needs {} devices, {} has {}",
                                 flags.layout,
                                 layout.world(),
                                 cluster.name,
                                 cluster.num_devices()));
  }
  const GraphBuilder build = problem.graph_builder();
  const Plan plan = make_uniform_plan(build,
                                      layout,
                                      problem.batch,
                                      problem.sequence,
                                      problem.precision,
                                      layout.world(),
                                      "--layout");
  Graph graph = build(plan.microbatch());
  Evaluation evaluation = evaluate(plan, graph, cluster, *problem.cluster.costs);
  PlanPrediction prediction;
  prediction.method = "layout " + to_string(layout);
  PlanFile file = make_plan_file(problem, plan, evaluation, prediction);
  return {std::move(file), std::move(graph), std::move(evaluation)};
}

int evaluate_layer_profile(const EvaluateFlags& flags) {
  if (!flags.cluster.empty() || !flags.layout.empty() || flags.batch != 0 || flags.sequence != 0 ||
      !flags.output.empty()) {
    throw InputError("evaluate",
                     "--layer-profile prices a run of Sailor's as its file states it: no CLUSTER, "
                     "--layout, --batch, --sequence or -o");
  }
  SailorFlags sailor = flags.sailor;
  sailor.run = flags.plan_or_model;
  return evaluate_sailor_run(sailor, flags.json);
}

int evaluate_command(const EvaluateFlags& flags) {
  if (!flags.sailor.layer_profile.empty()) {
    return evaluate_layer_profile(flags);
  }
  const Evaluated evaluated =
      flags.cluster.empty() ? evaluate_plan_file(flags) : evaluate_layout(flags);
  const Plan& plan = evaluated.file.plan;
  if (!flags.output.empty()) {
    write_plan_file(flags.output, evaluated.file, evaluated.graph);
  }
  if (flags.json) {
    fmt::print("{}", to_json_text(account_json(plan, evaluated.evaluation)));
  } else {
    fmt::print("{} per step, {:.0f} tokens/s\n\n{}\n{}\n{}",
               format_seconds(to_seconds(evaluated.evaluation.step_time)),
               tokens_per_second(plan, evaluated.evaluation.step_time),
               plan_strip(plan, evaluated.graph),
               time_table(plan, evaluated.evaluation),
               memory_table(evaluated.evaluation));
    fmt::print("times {}{}\n",
               evaluated.file.cluster.costs->provenance(),
               evaluated.evaluation.extrapolated ? "; some lie outside of the measured range" : "");
  }
  return evaluated.evaluation.fits() ? kExitDone : kExitInfeasible;
}

}  // namespace

void add_evaluate_command(CLI::App& app, CommandRun& run) {
  CLI::App* command = app.add_subcommand("evaluate", "time and memory of any plan, term by term");
  command->footer(
      "Examples: shardwise evaluate plan.json\n"
      "          shardwise evaluate config.json local:4 --batch 16 --sequence 256 "
      "--layout \"tp=2 dp=2\" -o mine.json\n"
      "Layout keys: tp pp dp cp ep vp zero sp micro recompute schedule layers. Exit code 1: does "
      "not fit.");
  const auto flags = std::make_shared<EvaluateFlags>();
  command->add_option("PLAN_OR_MODEL", flags->plan_or_model, "plan file, or model (with CLUSTER)")
      ->required();
  command->add_option("CLUSTER", flags->cluster, "preset, cluster file or profile");
  command->add_option("--layout", flags->layout, "uniform layout, such as \"tp=8 pp=4 dp=4\"");
  command->add_option("--batch", flags->batch, "sequences of one training step")
      ->check(CLI::Range(std::int64_t{1}, kMostSequences));
  command->add_option("--sequence", flags->sequence, "tokens of a sequence")
      ->check(CLI::Range(std::int64_t{1}, kMostTokens));
  add_precision_flag(*command, flags->precision, ClusterArgument::kPositional);
  command->add_option("--model-type", flags->model_type, "for a config.json without model_type");
  command->add_option("-o,--output", flags->output, "write the plan here");
  command->add_flag("--json", flags->json, "print one JSON document");
  SailorFlags& sailor = flags->sailor;
  command->add_option("--layer-profile",
                      sailor.layer_profile,
                      "layer times of Sailor's; the plan is then one of its runs");
  CLI::Option* profile = command->get_option("--layer-profile");
  command->add_option("--layer-sizes", sailor.layer_sizes, "its llm_info.json")->needs(profile);
  command->add_option("--bandwidths", sailor.bandwidths, "its fitted bandwidths between nodes")
      ->needs(profile);
  command->add_option("--profiled-model", sailor.model, "the model's name in these files")
      ->needs(profile);
  command->add_option("--process-memory", sailor.process_memory, "of a device, beside the layers'")
      ->needs(profile)
      ->capture_default_str();
  command->callback([flags, &run] { run = [flags] { return evaluate_command(*flags); }; });
}

}  // namespace shardwise
