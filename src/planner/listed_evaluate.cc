// The formulas of listed_problem.h, written down for one plan.
#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "planner/listed_problem.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

struct StageSums {
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  std::int64_t per_step = 0;
  std::int64_t state = 0;
  std::int64_t activations = 0;
  std::int64_t transient = 0;
  std::int64_t sent_forward = 0;   // to the next stage
  std::int64_t sent_backward = 0;  //
};

[[noreturn]] void refuse(const std::string& what) { throw InputError("listed plan", what); }

const std::vector<ListedOption>& options_of(const ListedProblem& problem, int layer, int mesh) {
  return problem.options[at(problem.layers[at(layer)])][at(mesh)];
}

const ListedOption& option_at(const ListedProblem& problem, const ListedStage& stage, int index) {
  const std::vector<ListedOption>& options =
      options_of(problem, stage.first_layer + index, stage.mesh);
  const int chosen = stage.options[at(index)];
  if (chosen < 0 || chosen >= static_cast<int>(options.size())) {
    refuse(fmt::format("layer {}: expected one of {} options, found number {}",
                       stage.first_layer + index,
                       options.size(),
                       chosen));
  }
  return options[at(chosen)];
}

ListedMove reshard(const ListedProblem& problem, int layer, int mesh, int output, int input) {
  std::optional<ListedMove> move;
  if (problem.reshard) {
    move = problem.reshard(problem.layers[at(layer)], mesh, output, input);
  } else if (output == input) {
    move = ListedMove{};
  }
  if (!move) {
    refuse(fmt::format("layer {}: layout {} cannot become layout {}", layer, output, input));
  }
  return *move;
}

StageSums add_up(const ListedProblem& problem, const ListedStage& stage) {
  StageSums sums;
  const int count = static_cast<int>(stage.options.size());
  for (int i = 0; i < count; ++i) {
    const ListedOption& option = option_at(problem, stage, i);
    sums.forward += option.forward.count;
    sums.backward += option.backward.count;
    sums.per_step += option.per_step.count;
    sums.state += option.state.count;
    sums.activations += option.activations.count;
    sums.transient = std::max(sums.transient, option.transient.count);
    if (i + 1 < count) {
      const ListedMove move = reshard(problem,
                                      stage.first_layer + i,
                                      stage.mesh,
                                      option.output,
                                      option_at(problem, stage, i + 1).input);
      sums.forward += move.forward.count;
      sums.backward += move.backward.count;
    }
  }
  return sums;
}

std::int64_t in_flight(Schedule schedule, std::int64_t m, std::int64_t stages, std::int64_t stage) {
  switch (schedule) {
    case Schedule::k1F1B:
      return std::min(m, stages - stage);
    case Schedule::k1F1BEager:
      return std::min(m, 2 * (stages - 1 - stage) + 1);
    default:
      return m;
  }
}

std::int64_t period_of(Schedule schedule, const std::vector<StageSums>& stages) {
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  std::int64_t both = 0;
  for (const StageSums& stage : stages) {
    const std::int64_t time = stage.forward + stage.backward;
    const std::int64_t sent = stage.sent_forward + stage.sent_backward;
    forward = std::max({forward, stage.forward, stage.sent_forward});
    backward = std::max({backward, stage.backward, stage.sent_backward});
    both = std::max(both, schedule == Schedule::k1F1B ? time + sent : std::max(time, sent));
  }
  return schedule == Schedule::kGpipe ? forward + backward : both;
}

void check_shape(const ListedPlan& plan, const ListedProblem& problem) {
  int next = 0;
  for (const ListedStage& stage : plan.stages) {
    if (stage.first_layer != next || stage.options.empty() || stage.mesh < 0 ||
        stage.mesh >= static_cast<int>(problem.meshes.size())) {
      refuse(
          fmt::format("expected a stage from layer {} on a known mesh, found one of {} layers "
                      "from {} on mesh {}",
                      next,
                      stage.options.size(),
                      stage.first_layer,
                      stage.mesh));
    }
    next += static_cast<int>(stage.options.size());
  }
  if (next != static_cast<int>(problem.layers.size())) {
    refuse(fmt::format("expected {} layers, found {}", problem.layers.size(), next));
  }
}

}  // namespace

ListedEvaluation evaluate_listed(const ListedPlan& plan, const ListedProblem& problem) {
  check_shape(plan, problem);
  ListedEvaluation result;
  std::vector<StageSums> stages;
  std::vector<std::int64_t> devices(problem.types.size(), 0);
  std::int64_t per_step = 0;
  std::int64_t fill = 0;
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    const ListedStage& stage = plan.stages[i];
    StageSums sums = add_up(problem, stage);
    const ListedMesh& mesh = problem.meshes[at(stage.mesh)];
    if (i + 1 < plan.stages.size() && problem.crossing) {
      const ListedStage& next = plan.stages[i + 1];
      const int last = static_cast<int>(stage.options.size()) - 1;
      const std::optional<ListedMove> move =
          problem.crossing(problem.layers[at(stage.first_layer + last)],
                           stage.mesh,
                           option_at(problem, stage, last).output,
                           next.mesh,
                           option_at(problem, next, 0).input);
      if (!move) {
        refuse(fmt::format("stage {} cannot send to the next one", i));
      }
      sums.sent_forward = move->forward.count;
      sums.sent_backward = move->backward.count;
    }
    const std::int64_t k = in_flight(plan.schedule,
                                     problem.num_microbatches,
                                     static_cast<std::int64_t>(plan.stages.size()),
                                     static_cast<std::int64_t>(i));
    const std::int64_t memory = sums.state + k * sums.activations + sums.transient;
    const ListedType& type = problem.types[at(mesh.type)];
    devices[at(mesh.type)] += mesh.devices;
    result.fits &= memory <= type.memory.count && devices[at(mesh.type)] <= type.devices;
    result.stage_memory.emplace_back(memory);
    fill += sums.forward + sums.backward + sums.sent_forward + sums.sent_backward;
    per_step = std::max(per_step, sums.per_step);
    stages.push_back(sums);
  }
  result.step_time =
      Picoseconds(fill + (problem.num_microbatches - 1) * period_of(plan.schedule, stages) +
                  per_step + problem.overhead.count);
  return result;
}

}  // namespace shardwise
