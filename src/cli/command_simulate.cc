// shardwise simulate: a step of a plan, event by event.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/inputs.h"
#include "core/errors.h"
#include "files/atomic_file.h"
#include "files/json_writer.h"
#include "report/plan_report.h"
#include "report/simulation_report.h"
#include "simulate/simulate.h"
#include "simulate/trace.h"

namespace shardwise {

namespace {

struct SimulateFlags {
  std::string plan;
  std::string trace;
  std::vector<std::string> stragglers;
  std::vector<double> microbatch_factors;
  double jitter = 0;
  std::uint64_t seed = 1;
  bool every_rank = false;
  bool overlap_tensor = false;
  std::vector<std::string> no_overlap;
  bool json = false;
};

Straggler parse_straggler(const std::string& text) {
  Straggler straggler;
  char rest = 0;
  if (std::sscanf(text.c_str(), "%d:%lf%c", &straggler.rank, &straggler.factor, &rest) != 2) {
    throw InputError(
        "--straggler",
        fmt::format("expected RANK:FACTOR, such as 3:1.5 for a rank 3 whose kernels take half as "
                    "long again, got \"{}\"",
                    text));
  }
  return straggler;
}

SimulationOptions options_of(const SimulateFlags& flags) {
  SimulationOptions options;
  for (const std::string& text : flags.stragglers) {
    options.stragglers.push_back(parse_straggler(text));
  }
  options.microbatch_factors = flags.microbatch_factors;
  options.jitter = flags.jitter;
  options.seed = flags.seed;
  options.symmetry =
      flags.every_rank ? SimulationOptions::Symmetry::kIgnore : SimulationOptions::Symmetry::kUse;
  options.timeline = flags.trace.empty() ? SimulationOptions::Timeline::kNone
                                         : SimulationOptions::Timeline::kRecord;
  options.overlap.tensor = flags.overlap_tensor;
  for (const std::string& what : flags.no_overlap) {
    (what == "data" ? options.overlap.data : options.overlap.pipeline) = false;
  }
  return options;
}

nlohmann::ordered_json to_json(const Simulation& simulation,
                               const Plan& plan,
                               const std::optional<Evaluation>& evaluation) {
  const auto seconds = [](Picoseconds time) { return to_seconds(time).count; };
  nlohmann::ordered_json result;
  result["step_time_s"] = seconds(simulation.step_time());
  result["makespan_s"] = seconds(simulation.makespan);
  result["overhead_s"] = seconds(simulation.overhead);
  result["tokens_per_s"] = tokens_per_second(plan, simulation.step_time());
  result["bubble_rate"] = simulation.bubble_rate();
  result["extrapolated"] = simulation.extrapolated;
  if (evaluation) {
    result["formula_step_time_s"] = seconds(evaluation->step_time);
  }
  nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
  for (const RankActivity& rank : simulation.ranks) {
    ranks.push_back({{"rank", rank.rank},
                     {"stage", rank.stage},
                     {"alike", rank.alike},
                     {"compute_s", seconds(rank.compute)},
                     {"collectives_s", seconds(rank.collectives)},
                     {"reductions_s", seconds(rank.reductions)},
                     {"point_to_point_s", seconds(rank.point_to_point)},
                     {"end_s", seconds(rank.end)},
                     {"peak_memory_bytes", rank.peak_memory.count}});
  }
  result["ranks"] = std::move(ranks);
  return result;
}

int simulate_command(const SimulateFlags& flags) {
  const LoadedPlan loaded = load_plan(flags.plan);
  const Plan& plan = loaded.file.plan;
  const Cluster& cluster = loaded.file.cluster.cluster;
  const CostTable& costs = *loaded.file.cluster.costs;
  const Simulation simulation = simulate(plan, loaded.graph, cluster, costs, options_of(flags));
  if (simulation.deadlock) {
    fmt::print(stderr, "{}: deadlock: {}\n", flags.plan, *simulation.deadlock);
    return kExitRunFailed;
  }
  const std::optional<Evaluation> evaluation = formula_evaluation(loaded);
  if (!flags.trace.empty()) {
    write_file_atomically(flags.trace, to_trace_json(simulation, loaded.graph));
  }
  if (flags.json) {
    fmt::print("{}", to_json_text(to_json(simulation, plan, evaluation)));
    return kExitDone;
  }
  fmt::print("{} per step, {:.0f} tokens/s; bubbles {:.1f} % of the pipeline's time\n",
             format_seconds(to_seconds(simulation.step_time())),
             tokens_per_second(plan, simulation.step_time()),
             100 * simulation.bubble_rate());
  if (evaluation) {
    fmt::print("{}", formula_line(simulation, *evaluation));
  }
  fmt::print(
      "\n{}\n{} of {} ranks replayed, the others are like one of them; {} of overhead in "
      "each step\ntimes {}{}\n",
      simulation_table(simulation),
      simulation.ranks.size(),
      [&] {
        int ranks = 0;
        for (const RankActivity& rank : simulation.ranks) {
          ranks += rank.alike;
        }
        return ranks;
      }(),
      format_seconds(to_seconds(simulation.overhead)),
      costs.provenance(),
      simulation.extrapolated ? "; some lie outside of the measured range" : "");
  if (!flags.trace.empty()) {
    fmt::print("timeline in {}: open it at ui.perfetto.dev\n", flags.trace);
  }
  return kExitDone;
}

}  // namespace

void add_simulate_command(CLI::App& app, CommandRun& run) {
  CLI::App* command =
      app.add_subcommand("simulate", "replay one step of a plan: timeline, bubbles, memory");
  command->footer(
      "Examples: shardwise simulate plan.json --trace trace.json\n"
      "          shardwise simulate plan.json --straggler 3:1.2 --jitter 0.02");
  const auto flags = std::make_shared<SimulateFlags>();
  command->add_option("PLAN", flags->plan, "plan file")->required();
  command->add_option("--trace", flags->trace, "write a timeline for Perfetto here");
  command->add_option(
      "--straggler", flags->stragglers, "RANK:FACTOR: a rank whose kernels take that much longer");
  command
      ->add_option("--microbatch-factors",
                   flags->microbatch_factors,
                   "one for each micro-batch, as in 1,1.2,1.4: how long its kernels take")
      ->delimiter(',');
  command->add_option("--jitter", flags->jitter, "standard deviation of kernel times, 0 to 0.5");
  command->add_option("--seed", flags->seed, "of the jitter")->capture_default_str();
  command->add_flag("--every-rank", flags->every_rank, "replay ranks that are alike one by one");
  command->add_flag(
      "--overlap-tensor", flags->overlap_tensor, "conversions run beside the products they feed");
  command
      ->add_option("--no-overlap",
                   flags->no_overlap,
                   "data: wait for each gradient reduction; pipeline: wait for each message")
      ->check(CLI::IsMember({"data", "pipeline"}));
  command->add_flag("--json", flags->json, "print one JSON document");
  command->callback([flags, &run] { run = [flags] { return simulate_command(*flags); }; });
}

}  // namespace shardwise
