#include "planner/methods/layer_strategies.h"

#include <numeric>

#include "core/errors.h"
#include "graph/tied.h"

namespace shardwise::planning {

namespace {

using internal::LayerPrice;
using internal::ParameterRole;
using internal::TieRole;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::vector<int> devices_from(int start, int count) {
  std::vector<int> devices(at(count));
  std::iota(devices.begin(), devices.end(), start);
  return devices;
}

}  // namespace

LayerStrategies::LayerStrategies(const Graph& graph,
                                 const Mesh& mesh,
                                 Precision precision,
                                 const Cluster& cluster,
                                 const CostTable& costs)
    : graph_(graph), mesh_(mesh), precision_(precision), cluster_(cluster), costs_(costs) {
  StagePlan stage;
  stage.mesh = mesh;
  stage.devices = devices_from(0, mesh.devices());
  surroundings_ = internal::surroundings_of(cluster, stage);
}

TargetGrid LayerStrategies::grid_of(const LayerStrategy& strategy) const {
  TargetGrid grid;
  grid.mesh = mesh_;
  grid.roles = {mesh_.sizes[0] > 1 ? GridRole::kData : GridRole::kNone,
                mesh_.sizes[1] > 1 ? strategy.free_axis : GridRole::kNone,
                GridRole::kNone};
  grid.state = strategy.state;
  grid.recompute = strategy.recompute;
  return grid;
}

std::optional<LayerPlan> LayerStrategies::plan(int layer, const LayerStrategy& strategy) const {
  std::optional<LayerPlan> plan = grid_layer(graph_, layer, grid_of(strategy));
  const int parts = mesh_.sizes[0] * (strategy.free_axis == GridRole::kData ? mesh_.sizes[1] : 1);
  return graph_.microbatch % parts == 0 ? plan : std::nullopt;
}

Layout LayerStrategies::boundary(const LayerStrategy& strategy) const {
  return grid_boundary(grid_of(strategy));
}

const LayerPrice& LayerStrategies::price(int layer,
                                         const LayerStrategy& strategy,
                                         const LayerStrategy& next,
                                         bool has_stages) {
  const bool is_last = layer + 1 == static_cast<int>(graph_.layers.size());
  const auto [entry, is_new] = prices_.try_emplace(Key{graph_.layers[at(layer)].block,
                                                       layer == 0,
                                                       is_last,
                                                       strategy,
                                                       is_last ? strategy : next,
                                                       has_stages});
  if (is_new) {
    std::vector<ParameterRole> roles;
    for (const TiedParameter& tied : graph_.tied) {
      const ParameterPlace owner = owner_of(graph_, tied);
      const ParameterPlace alias = alias_of(graph_, tied);
      if (owner.layer == layer && has_stages) {
        roles.push_back({owner.op, owner.index, TieRole::kExchangedOwner});
      }
      if (alias.layer == layer) {
        roles.push_back(
            {alias.op, alias.index, has_stages ? TieRole::kExchangedAlias : TieRole::kSharedAlias});
      }
    }
    const std::optional<LayerPlan> own = plan(layer, strategy);
    SHARDWISE_CHECK(own.has_value(), "the strategy runs the layer");
    entry->second = internal::price_layer(graph_.block_of(layer),
                                          *own,
                                          is_last ? Layout{} : boundary(next),
                                          precision_,
                                          surroundings_,
                                          roles,
                                          costs_);
  }
  return entry->second;
}

Picoseconds LayerStrategies::transfer(const LayerStrategy& strategy) {
  const auto [entry, is_new] = transfers_.try_emplace(strategy, Picoseconds(0));
  if (is_new) {
    const Block& block = graph_.block_of(0);
    const Tensor& tensor = block.tensors[at(block.outputs[0])];
    const int count = mesh_.devices();
    const TensorPlacement sender{boundary(strategy), mesh_, devices_from(0, count)};
    const TensorPlacement receiver{boundary(strategy), mesh_, devices_from(count, count)};
    const auto time = [&](const TensorPlacement& from, const TensorPlacement& to) {
      return internal::price_transfer(
                 tensor.shape, from, to, element_bytes(tensor.type, precision_), cluster_, costs_)
          .time;
    };
    entry->second = time(sender, receiver) + time(receiver, sender);
  }
  return entry->second;
}

Picoseconds microbatch_time(const LayerPrice& price) {
  return price.forward + price.recompute + price.backward + price.forward_collectives +
         price.backward_collectives + price.forward_gather + price.backward_state;
}

Picoseconds step_time(const LayerPrice& price) {
  return price.exposed_reduction + price.optimizer + price.parameter_gather;
}

Bytes state_bytes(const LayerPrice& price) {
  return price.weights + price.gradients + price.optimizer_state;
}

Plan plan_of_stages(const PlanRequest& request,
                    int num_microbatches,
                    Schedule schedule,
                    const std::vector<StrategyStage>& stages) {
  Plan plan;
  plan.batch = request.batch;
  plan.sequence = request.sequence;
  plan.num_microbatches = num_microbatches;
  plan.schedule = schedule;
  plan.precision = request.precision;
  int layer = 0;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const StrategyStage& from = stages[s];
    StagePlan stage;
    stage.mesh = from.strategies->mesh();
    stage.devices = devices_from(from.start, stage.mesh.devices());
    ChunkPlan chunk;
    chunk.first_layer = layer;
    for (const LayerStrategy& strategy : from.layers) {
      std::optional<LayerPlan> one = from.strategies->plan(layer++, strategy);
      SHARDWISE_CHECK(one.has_value(), "the strategy runs the layer");
      chunk.layers.push_back(std::move(*one));
    }
    if (s + 1 < stages.size()) {
      // The receiver's layout if both meshes can say it, so that it converts nothing.
      const StrategyStage& next = stages[s + 1];
      const bool is_alike = next.strategies->mesh() == stage.mesh;
      chunk.output_layout = is_alike ? next.strategies->boundary(next.layers.front())
                                     : from.strategies->boundary(from.layers.back());
    }
    stage.chunks.push_back(std::move(chunk));
    plan.stages.push_back(std::move(stage));
  }
  return plan;
}

}  // namespace shardwise::planning
