#include "planner/methods/plan_space.h"

#include "core/errors.h"
#include "planner/space.h"

namespace shardwise::planning {

namespace {

bool is_at_most(int value, int limit) { return limit == 0 || value <= limit; }

// Whole nodes or even parts of one.
bool keeps_to_nodes(const StagePlan& stage, int node) {
  const int size = static_cast<int>(stage.devices.size());
  const int first = stage.devices.front();
  return size < node ? node % size == 0 && first % size == 0
                     : size % node == 0 && first % node == 0;
}

bool has_one_type(const StagePlan& stage, const Cluster& cluster) {
  const int type = cluster.type_of(stage.devices.front());
  return std::all_of(stage.devices.begin(), stage.devices.end(), [&](int device) {
    return cluster.type_of(device) == type;
  });
}

}  // namespace

bool is_within(const SpaceLimits& limits, const Plan& plan) {
  const auto is_layer_within = [&](const LayerPlan& layer) {
    return allows(limits.state_shardings, layer.state_sharding) &&
           allows(limits.recomputes, layer.recompute);
  };
  const auto is_chunk_within = [&](const ChunkPlan& chunk) {
    return std::all_of(chunk.layers.begin(), chunk.layers.end(), is_layer_within);
  };
  const auto is_stage_within = [&](const StagePlan& stage) {
    return is_at_most(static_cast<int>(stage.devices.size()), limits.max_stage_devices) &&
           is_at_most(stage.mesh.sizes[0], limits.max_data_degree) &&
           std::all_of(stage.chunks.begin(), stage.chunks.end(), is_chunk_within);
  };
  return is_at_most(plan.num_stages(), limits.max_stages) &&
         std::all_of(plan.stages.begin(), plan.stages.end(), is_stage_within);
}

bool is_in_space(const Plan& plan, const PlanRequest& request, const Cluster& cluster) {
  const bool is_whole = !is_aligned(request.limits, cluster);
  const auto is_stage_in_space = [&](const StagePlan& stage) {
    const int axes = (stage.mesh.sizes[1] > 1 ? 1 : 0) + (stage.mesh.sizes[2] > 1 ? 1 : 0);
    return axes <= request.free_axes && has_one_type(stage, cluster) &&
           (is_whole || keeps_to_nodes(stage, cluster.levels.front().size));
  };
  return allows(request.schedules, plan.schedule) &&
         allows(request.microbatch_counts, plan.num_microbatches) &&
         is_within(request.limits, plan) &&
         std::all_of(plan.stages.begin(), plan.stages.end(), is_stage_in_space);
}

std::optional<Plan> find_uniform_plan(const UniformLayout& layout,
                                      const Graph& graph,
                                      const PlanRequest& request,
                                      const Cluster& cluster) {
  const SpaceLimits& limits = request.limits;
  if (!is_at_most(layout.pipeline, limits.max_stages) ||
      !is_at_most(layout.tensor * layout.data, limits.max_stage_devices) ||
      !is_at_most(layout.data, limits.max_data_degree)) {
    return std::nullopt;  // no need to build it
  }
  try {
    Plan plan = make_uniform_plan(graph,
                                  layout,
                                  request.batch,
                                  request.sequence,
                                  request.precision,
                                  cluster.num_devices(),
                                  "");
    return is_in_space(plan, request, cluster) ? std::optional(std::move(plan)) : std::nullopt;
  } catch (const InputError&) {
    return std::nullopt;
  }
}

}  // namespace shardwise::planning
