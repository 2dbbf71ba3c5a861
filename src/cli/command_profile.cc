// shardwise profile: measures this machine for a model's plans.
#if SHARDWISE_HAS_RUNTIME
#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/inputs.h"
#include "core/errors.h"
#include "files/atomic_file.h"
#include "io/cluster_file.h"
#include "io/cluster_preset.h"
#include "profile/profiler.h"
#include "report/progress_line.h"
#include "runtime/launcher.h"
#include "runtime/memory_counter.h"
#include "runtime/mpi_communicator.h"

namespace shardwise {

namespace {

struct ProfileFlags {
  ProblemFlags problem;
  int ranks = 0;
  int free_axes = 2;
  double budget_s = 45;
  std::string output = "profile.json";
};

ProfileRequest make_request(const ProfileFlags& flags,
                            const ModelConfig& model,
                            const Cluster& cluster) {
  const std::int64_t sequence = flags.problem.sequence;
  const auto graph = [&](std::int64_t microbatch) {
    return build_graph(model, microbatch, sequence);
  };
  ProfileRequest request;
  request.precision = flags.problem.precision.empty()
                          ? Precision::kFloat32
                          : parse_precision(flags.problem.precision, "--precision");
  request.required = required_measurements(
      graph, flags.problem.batch, request.precision, cluster, flags.ranks, flags.free_axes);
  request.budget = Seconds(flags.budget_s);
  request.progress = [line = std::make_shared<ProgressLine>()](
                         int done, int all, const std::string& what) {
    line->show(fmt::format("profile: {} of {}  {}", done, all, what));
  };
  return request;
}

void refuse_unmeasurable(const ProfileFlags& flags, const ModelConfig& model) {
  const Graph graph = build_graph(model, 1, flags.problem.sequence);
  if (const Op* op = find_unmeasurable(graph)) {
    throw InputError(flags.problem.model,
                     fmt::format("expected ops that this build can run, found {} ({}): the model "
                                 "can be planned, not measured yet; plan on a preset such as "
                                 "dgx-h100:1 or on a cluster file",
                                 op->name,
                                 to_string(op->kind)));
  }
}

int profile_as_rank(const ProfileFlags& flags, const LaunchedRank& place) {
  settle_on_core(place);
  if (place.world_size != flags.ranks) {
    throw InputError("--ranks",
                     fmt::format("expected as many ranks as were started ({}), found {}",
                                 place.world_size,
                                 flags.ranks));
  }
  const ModelConfig model = read_model_config(
      flags.problem.model,
      flags.problem.model_type.empty() ? std::nullopt
                                       : std::optional<std::string>(flags.problem.model_type));
  const Cluster cluster = local_cluster(flags.ranks);
  try {
    MpiJob job{MpiOptions{}};
    const MeasuredTable table =
        measure_table(make_request(flags, model, cluster), job.communicator());
    if (place.rank == 0) {
      write_profile(flags.output, cluster, table);
      fmt::print("{}: {} op times, {} collective times, overlap {:.0f} %; wrote {}\n",
                 table.machine,
                 table.ops.size(),
                 table.collectives.size(),
                 100 * table.overlap_fraction.front(),
                 flags.output);
    }
  } catch (const InputError& error) {
    leave_failed_job(fmt::format("shardwise: {}", error.what()), kExitBadInput);
  } catch (const std::exception& error) {
    leave_failed_job(fmt::format("shardwise: rank {}: {}", place.rank, error.what()),
                     kExitRunFailed);
  }
  return kExitDone;
}

int profile_command(const ProfileFlags& flags) {
  if (const std::optional<LaunchedRank> place = launched_rank()) {
    return profile_as_rank(flags, *place);
  }
  // Errors and warnings once, before the measuring.
  refuse_unmeasurable(flags, load_model(flags.problem.model, flags.problem.model_type));
  expect_writable(flags.output);
  return run_local_ranks(invocation().binary, invocation().arguments, flags.ranks);
}

}  // namespace

void add_profile_command(CLI::App& app, CommandRun& run) {
  CLI::App* command = app.add_subcommand(
      "profile", "measure what a model's plans can need on this machine, all ranks busy at once");
  command->footer(
      "Example: shardwise profile config.json --ranks 2 --batch 16 --sequence 256 -o "
      "profile.json\n"
      "Then: shardwise plan config.json profile.json --batch 16 --sequence 256");
  const auto flags = std::make_shared<ProfileFlags>();
  add_problem_flags(*command, flags->problem, ClusterArgument::kNone);
  command->add_option("--ranks", flags->ranks, "ranks to start, one core each")
      ->required()
      ->check(CLI::Range(1, 1024));
  command->add_option("--free-axes", flags->free_axes, "free mesh axes of the plans: 1 or 2")
      ->check(CLI::Range(1, 2))
      ->capture_default_str();
  command->add_option("--budget", flags->budget_s, "seconds that measuring may take, about")
      ->check(finite_number())
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  command->add_option("-o,--output", flags->output, "write the profile here")
      ->capture_default_str();
  command->callback([flags, &run] { run = [flags] { return profile_command(*flags); }; });
}

}  // namespace shardwise
#endif
