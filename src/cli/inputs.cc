#include "cli/inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/errors.h"

namespace shardwise {

CLI::Validator finite_number() {
  const auto check = [](const std::string& text) -> std::string {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    const bool is_whole = !text.empty() && *end == '\0';
    return is_whole && !std::isfinite(value) ? "expected a finite number, found " + text : "";
  };
  return CLI::Validator(check, "");
}

void add_precision_flag(CLI::App& command, std::string& precision, ClusterArgument cluster) {
  const std::string missing = cluster == ClusterArgument::kNone
                                  ? "fp32"
                                  : "bf16 where every device computes it at least twice as fast";
  command
      .add_option(
          "--precision", precision, "fp32, or bf16 with fp32 master weights; without it " + missing)
      ->check(CLI::IsMember({"fp32", "bf16"}));
}

void add_problem_flags(CLI::App& command, ProblemFlags& flags, ClusterArgument cluster) {
  command.add_option("MODEL", flags.model, "Hugging Face config.json, or its folder")->required();
  if (cluster == ClusterArgument::kPositional) {
    command
        .add_option("CLUSTER",
                    flags.cluster,
                    "preset with its number of nodes (dgx-a100:N, dgx-h100:N, local:N), cluster "
                    "file (.yaml) or profile (.json)")
        ->required();
  }
  command.add_option("--batch", flags.batch, "sequences of one training step")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, kMostSequences));
  command.add_option("--sequence", flags.sequence, "tokens of a sequence")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, kMostTokens));
  add_precision_flag(command, flags.precision, cluster);
  command.add_option("--model-type", flags.model_type, "for a config.json without model_type");
}

Precision parse_precision(const std::string& text, const std::string& where) {
  for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
    if (text == to_string(precision)) {
      return precision;
    }
  }
  throw InputError(where, fmt::format("expected fp32 or bf16, found \"{}\"", text));
}

Precision own_precision(const Cluster& cluster) {
  const auto prefers_bfloat16 = [](const DeviceType& type) {
    return type.peak_bf16.count >= 2 * type.peak_fp32.count;
  };
  return std::all_of(cluster.types.begin(), cluster.types.end(), prefers_bfloat16)
             ? Precision::kBFloat16
             : Precision::kFloat32;
}

Precision chosen_precision(const std::string& flag, const Cluster& cluster) {
  return flag.empty() ? own_precision(cluster) : parse_precision(flag, "--precision");
}

ModelConfig load_model(const std::string& path, const std::string& model_type) {
  ModelConfig config = read_model_config(
      path, model_type.empty() ? std::nullopt : std::optional<std::string>(model_type));
  for (const std::string& warning : config.warnings) {
    fmt::print(stderr, "warning: {}\n", warning);
  }
  return config;
}

Problem load_problem(const ProblemFlags& flags) {
  Problem problem;
  problem.model = load_model(flags.model, flags.model_type);
  problem.cluster = load_cluster(flags.cluster);
  problem.batch = flags.batch;
  problem.sequence = flags.sequence;
  problem.precision = chosen_precision(flags.precision, problem.cluster.cluster);
  return problem;
}

GraphBuilder Problem::graph_builder() const {
  return [config = model, tokens = sequence](std::int64_t microbatch) {
    return build_graph(config, microbatch, tokens);
  };
}

Graph build_plan_graph(const JsonValue& model,
                       const std::string& model_type,
                       const PlanShape& shape) {
  return build_graph(parse_model_config(model, model_type), shape.microbatch, shape.sequence);
}

LoadedPlan load_plan(const std::string& path) {
  LoadedPlan loaded;
  loaded.file = read_plan_file(path, build_plan_graph);
  loaded.model =
      parse_model_config(parse_json(loaded.file.model_json, path), loaded.file.model_type);
  loaded.graph =
      build_graph(loaded.model, loaded.file.plan.microbatch(), loaded.file.plan.sequence);
  return loaded;
}

std::optional<Evaluation> formula_evaluation(const LoadedPlan& loaded) {
  const PlanFile& file = loaded.file;
  if (!traits_of(file.plan.schedule).has_cost_formula) {
    return std::nullopt;
  }
  return evaluate(file.plan, loaded.graph, file.cluster.cluster, *file.cluster.costs);
}

PlanFile make_plan_file(const Problem& problem,
                        const Plan& plan,
                        const Evaluation& evaluation,
                        PlanPrediction prediction) {
  prediction.step_time = evaluation.step_time;
  for (const StageMemory& memory : evaluation.stage_memory) {
    prediction.stage_memory.push_back(memory.total());
  }
  return {
      problem.model.json, problem.model.model_type, problem.cluster, plan, std::move(prediction)};
}

nlohmann::ordered_json account_json(const Plan& plan, const Evaluation& evaluation) {
  using Json = nlohmann::ordered_json;
  const auto seconds = [](Picoseconds time) { return to_seconds(time).count; };
  Json times = Json::array();
  for (const StageTime& stage : evaluation.stage_times) {
    times.push_back({{"forward_s", seconds(stage.forward)},
                     {"backward_s", seconds(stage.backward)},
                     {"recompute_s", seconds(stage.recompute)},
                     {"collectives_s", seconds(stage.collectives)},
                     {"state_collectives_s", seconds(stage.state_collectives)},
                     {"transfer_s", seconds(stage.transfer)},
                     {"exposed_reduction_s", seconds(stage.exposed_reduction)},
                     {"optimizer_s", seconds(stage.optimizer)},
                     {"parameter_gather_s", seconds(stage.parameter_gather)},
                     {"tied_exchange_s", seconds(stage.tied_exchange)}});
  }
  Json memory = Json::array();
  for (const StageMemory& stage : evaluation.stage_memory) {
    memory.push_back({{"weights_bytes", stage.weights.count},
                      {"gradients_bytes", stage.gradients.count},
                      {"optimizer_bytes", stage.optimizer.count},
                      {"activations_bytes", stage.activations.count},
                      {"in_flight", stage.in_flight},
                      {"transient_bytes", stage.transient.count},
                      {"boundary_buffers_bytes", stage.boundary_buffers.count},
                      {"reserve_bytes", stage.reserve.count},
                      {"tensor_bytes", (stage.total() - stage.reserve).count},
                      {"total_bytes", stage.total().count},
                      {"limit_bytes", stage.limit.count}});
  }
  Json traffic = Json::array();
  for (const StageTraffic& stage : evaluation.traffic) {
    const auto of = [&](CollectiveKind kind) {
      return stage.by_collective[static_cast<std::size_t>(kind)];
    };
    traffic.push_back({{"all_gather_bytes", of(CollectiveKind::kAllGather)},
                       {"reduce_scatter_bytes", of(CollectiveKind::kReduceScatter)},
                       {"all_reduce_bytes", of(CollectiveKind::kAllReduce)},
                       {"all_to_all_bytes", of(CollectiveKind::kAllToAll)},
                       {"sends_bytes", stage.sends},
                       {"routed", stage.routed}});
  }
  return {{"step_time_s", seconds(evaluation.step_time)},
          {"tokens_per_s",
           static_cast<double>(plan.batch * plan.sequence) / seconds(evaluation.step_time)},
          {"fits", evaluation.fits()},
          {"extrapolated", evaluation.extrapolated},
          {"period_s", seconds(evaluation.period)},
          {"fill_s", seconds(evaluation.fill)},
          {"per_step_s", seconds(evaluation.per_step)},
          {"overhead_s", seconds(evaluation.overhead)},
          {"times", std::move(times)},
          {"memory", std::move(memory)},
          {"traffic", std::move(traffic)}};
}

}  // namespace shardwise
