// shardwise train: trains a plan.
#if SHARDWISE_HAS_RUNTIME
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/inputs.h"
#include "core/errors.h"
#include "models/checkpoint_map.h"
#include "runtime/launcher.h"
#include "runtime/memory_counter.h"
#include "runtime/mpi_communicator.h"
#include "runtime/trainer.h"
#include "runtime/watchdog.h"

namespace shardwise {

namespace {

struct TrainFlags {
  std::string plan;
  TrainingOptions options;
  double timeout_s = 600;
};

int world_of(const Plan& plan) {
  int world = 1;
  for (const StagePlan& stage : plan.stages) {
    for (const int device : stage.devices) {
      world = std::max(world, device + 1);
    }
  }
  return world;
}

void refuse_untrainable(const ModelConfig& model) {
  const std::vector<std::string> refusals = training_refusals(model);
  if (!refusals.empty()) {
    throw InputError("train", "this model can be planned but not trained yet: " + refusals.front());
  }
}

TrainingModel make_training_model(const LoadedPlan& loaded) {
  return {.plan = loaded.file.plan,
          .graph = loaded.graph,
          .config_json = loaded.file.model_json,
          .written_places = written_checkpoint(loaded.model, loaded.graph),
          .stored_places = [&loaded](std::span<const std::string> names, const std::string& where) {
            return stored_checkpoint(loaded.model, loaded.graph, names, where);
          }};
}

int train_as_rank(const TrainFlags& flags, const LoadedPlan& loaded, const LaunchedRank& place) {
  const int world = world_of(loaded.file.plan);
  if (place.world_size != world) {
    throw InputError(flags.plan,
                     fmt::format("expected {} ranks, the devices of the plan, found {} started by "
                                 "{}; start {} or plan for {}",
                                 world,
                                 place.world_size,
                                 place.launcher,
                                 world,
                                 place.world_size));
  }
  settle_on_core(place);
  install_memory_counter();
  Activity activity;
  MpiOptions options;
  options.timeout = Seconds(flags.timeout_s);
  options.activity = &activity;
  options.expected_ranks = place.world_size;
  try {
    MpiJob job(options);
    const Watchdog watchdog(activity, place.rank, options.timeout, [](const std::string& message) {
      leave_failed_job("shardwise: " + message, kExitRunFailed);
    });
    try {
      train(make_training_model(loaded), flags.options, job.communicator(), activity);
    } catch (const InputError& error) {
      leave_failed_job(fmt::format("shardwise: {}", error.what()), kExitBadInput);
    }
  } catch (const std::exception& error) {  // lost ranks, and what ATen or the allocator throws
    leave_failed_job(fmt::format("shardwise: rank {}: {}", place.rank, error.what()),
                     kExitRunFailed);
  }
  return kExitDone;
}

void refuse_simulated_only(Schedule schedule) {
  if (!traits_of(schedule).has_cost_formula) {
    throw InputError("schedule " + to_string(schedule),
                     "it can be simulated, not trained yet; plan with gpipe, 1f1b, 1f1b-eager or "
                     "interleaved");
  }
}

int train_command(const TrainFlags& flags) {
  const LoadedPlan loaded = load_plan(flags.plan);
  refuse_untrainable(loaded.model);
  refuse_simulated_only(loaded.file.plan.schedule);
  if (const std::optional<LaunchedRank> place = launched_rank()) {
    return train_as_rank(flags, loaded, *place);
  }
  for (const std::string& warning : loaded.model.warnings) {
    fmt::print(stderr, "warning: {}\n", warning);
  }
  const int world = world_of(loaded.file.plan);
  return run_local_ranks(invocation().binary, invocation().arguments, world);
}

void add_data_flags(CLI::App& command, TrainingOptions& options) {
  command
      .add_option("--data",
                  options.data,
                  "text file or folder (bytes as tokens), nanoGPT .bin, or Megatron .bin/.idx")
      ->required();
  command.add_option("--evaluation-data", options.evaluation_data, "data for the validation loss");
  command
      .add_option("--evaluation-fraction",
                  options.evaluation_fraction,
                  "share of --data, from its end, kept for the validation loss")
      ->check(finite_number())
      ->check(CLI::Range(0.0, 0.9));
  command.add_option("--evaluate-every", options.evaluate_every, "steps; 0: never")
      ->check(CLI::NonNegativeNumber);
}

// Below 1: AdamW divides by 1 - beta^step.
constexpr double kMostBeta = 1 - 1e-9;

void add_optimizer_flags(CLI::App& command, TrainingOptions& options) {
  AdamW& adamw = options.optimizer;
  LearningRateSchedule& rate = options.learning_rate;
  command.add_option("--learning-rate", rate.peak, "highest learning rate")
      ->check(finite_number())
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--learning-rate-floor", rate.floor, "learning rate at the end")
      ->check(finite_number())
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--warmup", rate.warmup_steps, "steps of linear warm-up")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--decay-steps",
                  rate.total_steps,
                  "step at which the cosine reaches the floor; 0: constant after warm-up")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--beta1", adamw.beta1, "AdamW")
      ->check(finite_number())
      ->check(CLI::Range(0.0, kMostBeta))
      ->capture_default_str();
  command.add_option("--beta2", adamw.beta2, "AdamW")
      ->check(finite_number())
      ->check(CLI::Range(0.0, kMostBeta))
      ->capture_default_str();
  command.add_option("--epsilon", adamw.epsilon, "AdamW")
      ->check(finite_number())
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--weight-decay", adamw.weight_decay, "decoupled; norms and biases have none")
      ->check(finite_number())
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--clip", adamw.clip_norm, "largest global gradient norm; 0: no clipping")
      ->check(finite_number())
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--seed", options.seed, "of starting values and data order");
}

void add_output_flags(CLI::App& command, TrainingOptions& options) {
  command.add_option("--checkpoint", options.checkpoints, "folder for checkpoints step-N/");
  command
      .add_option("--checkpoint-every", options.checkpoint_every, "steps; 0: only after the last")
      ->check(CLI::NonNegativeNumber);
  command.add_flag("--resume", options.resume, "go on from the latest checkpoint, if there is one");
  command.add_option("--init", options.init, "folder of published weights to start from");
  command.add_option("--log", options.log, "write one JSON object a step here");
  command.add_option("--summary", options.summary, "write memory and bytes by rank here");
}

// Flags that would do nothing without another one.
void refuse_idle_flags(const TrainingOptions& options) {
  if (options.resume && options.checkpoints.empty()) {
    throw InputError("--resume", "needs --checkpoint DIR, the folder to resume from");
  }
  if (options.checkpoint_every > 0 && options.checkpoints.empty()) {
    throw InputError("--checkpoint-every", "needs --checkpoint DIR, the folder to write to");
  }
  if (options.evaluate_every == 0 &&
      (options.evaluation_fraction > 0 || !options.evaluation_data.empty())) {
    throw InputError(
        options.evaluation_data.empty() ? "--evaluation-fraction" : "--evaluation-data",
        "needs --evaluate-every N, the steps between evaluations");
  }
}

}  // namespace

void add_train_command(CLI::App& app, CommandRun& run) {
  CLI::App* command = app.add_subcommand(
      "train", "train a plan: starts its own ranks, or runs under mpirun, srun or torchrun");
  command->footer(
      "Example: shardwise train plan.json --data text/ --steps 200 --checkpoint run --log "
      "steps.jsonl\n"
      "Under a launcher: mpirun -n 4 shardwise train plan.json --data text/ --steps 200");
  const auto flags = std::make_shared<TrainFlags>();
  flags->options.seed = 1;
  command->add_option("PLAN", flags->plan, "plan file")->required();
  command->add_option("--steps", flags->options.steps, "of the whole run, resumed ones included")
      ->required()
      ->check(CLI::PositiveNumber);
  add_data_flags(*command, flags->options);
  add_optimizer_flags(*command, flags->options);
  add_output_flags(*command, flags->options);
  command->add_option("--timeout", flags->timeout_s, "seconds a rank may hang")
      ->check(finite_number())
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->callback([flags, &run] {
    run = [flags] {
      refuse_idle_flags(flags->options);
      return train_command(*flags);
    };
  });
}

}  // namespace shardwise
#endif
