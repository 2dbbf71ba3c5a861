// How: among the uniform grids that keep least (ZeRO 3, full recomputation, one sequence at a
// time), the one whose fullest stage exceeds its device by the least says what is missing.
#include "planner/infeasible.h"

#include <fmt/format.h>

#include <utility>

#include "core/errors.h"

namespace shardwise::planning {

namespace {

Infeasibility account(const Plan& plan, const Evaluation& evaluation) {
  std::size_t worst = 0;
  const auto excess = [&](std::size_t stage) {
    return evaluation.stage_memory[stage].total() - evaluation.stage_memory[stage].limit;
  };
  for (std::size_t stage = 1; stage < evaluation.stage_memory.size(); ++stage) {
    worst = excess(stage) > excess(worst) ? stage : worst;
  }
  const StagePlan& stage = plan.stages[worst];
  Infeasibility result;
  result.device = stage.devices.front();
  result.memory = evaluation.stage_memory[worst];
  result.first_layer = stage.chunks.front().first_layer;
  result.end_layer = stage.chunks.front().end_layer();
  result.would_fit = fmt::format("{} more memory on each device, by this uniform plan",
                                 format_bytes(excess(worst)));
  return result;
}

}  // namespace

std::optional<Infeasibility> explain_infeasible(const PlanRequest& request,
                                                const Cluster& cluster,
                                                const CostTable& costs) {
  std::optional<Infeasibility> nearest;
  const int devices = cluster.num_devices();
  for (int tensor = 1; tensor <= devices; ++tensor) {
    for (int pipeline = 1; tensor * pipeline <= devices; ++pipeline) {
      UniformLayout layout;
      layout.tensor = tensor;
      layout.pipeline = pipeline;
      layout.data = devices / (tensor * pipeline);
      layout.zero = 3;
      layout.recompute = Recompute::kFull;
      try {
        const Plan plan = make_uniform_plan(request.graph,
                                            layout,
                                            request.batch,
                                            request.sequence,
                                            request.precision,
                                            layout.world(),
                                            "infeasible");
        const Graph graph = request.graph(plan.microbatch());
        Infeasibility found = account(plan, evaluate(plan, graph, cluster, costs));
        if (!nearest || found.memory.total() - found.memory.limit <
                            nearest->memory.total() - nearest->memory.limit) {
          nearest = std::move(found);
        }
      } catch (const InputError&) {
        continue;  // this grid does not fit the model or the batch
      }
    }
  }
  return nearest;
}

}  // namespace shardwise::planning
