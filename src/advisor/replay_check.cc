#include "advisor/replay_check.h"

#include <utility>

namespace shardwise {

std::int64_t layer_passes(const Plan& plan) {
  std::int64_t layers = 0;
  for (const StagePlan& stage : plan.stages) {
    for (const ChunkPlan& chunk : stage.chunks) {
      layers += static_cast<std::int64_t>(chunk.layers.size());
    }
  }
  return layers * plan.num_microbatches;
}

ReplayCheck check_against_replay(const Plan& plan,
                                 const Evaluation& evaluation,
                                 const Graph& graph,
                                 const Cluster& cluster,
                                 const CostTable& costs,
                                 std::int64_t most_passes) {
  ReplayCheck check;
  check.formula = evaluation.step_time;
  check.band = replay_band(plan.schedule);
  if (layer_passes(plan) > most_passes) {
    return check;
  }
  Simulation simulation = simulate(plan, graph, cluster, costs);
  if (simulation.deadlock) {
    check.deadlock = std::move(simulation.deadlock);
  } else {
    check.replayed = simulation.step_time();
  }
  return check;
}

}  // namespace shardwise
