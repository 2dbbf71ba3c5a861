// A layer as planners see it that think in layers: strategies on a mesh [data, free], each with its
// price. The free axis of a strategy shards tensors as Megatron does, or the batch like the data
// axis.
#pragma once

#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "cost/stage_prices.h"
#include "planner/planner.h"
#include "planner/target_grid.h"

namespace shardwise::planning {

// One way to run any layer; equal strategies have equal numbers within one LayerStrategies.
struct LayerStrategy {
  GridRole free_axis = GridRole::kNone;  // kTensor or kData; kNone: the mesh has no free axis
  StateSharding state = StateSharding::kNone;
  Recompute recompute = Recompute::kNone;

  auto operator<=>(const LayerStrategy&) const = default;
};

class LayerStrategies {
 public:
  // Stages of `mesh` that stand like devices [0, n). All arguments must outlive it.
  LayerStrategies(const Graph& graph,
                  const Mesh& mesh,
                  Precision precision,
                  const Cluster& cluster,
                  const CostTable& costs);

  const Mesh& mesh() const { return mesh_; }
  // Nothing: the mesh does not divide what the strategy shards.
  std::optional<LayerPlan> plan(int layer, const LayerStrategy& strategy) const;
  // Layout of the boundary tensor in front of a layer with the strategy.
  Layout boundary(const LayerStrategy& strategy) const;
  // Price of a layer whose result goes on to one with strategy `next` (not read for the last
  // layer). A tied parameter counts as one that two stages exchange if `has_stages`. Requires
  // plan(layer, strategy).
  const internal::LayerPrice& price(int layer,
                                    const LayerStrategy& strategy,
                                    const LayerStrategy& next,
                                    bool has_stages);
  // A transfer of the boundary in front of a layer with that strategy, both ways, from devices
  // [0, n) to devices [n, 2 n). Requires that many devices.
  Picoseconds transfer(const LayerStrategy& strategy);

 private:
  TargetGrid grid_of(const LayerStrategy& strategy) const;

  const Graph& graph_;
  const Mesh mesh_;
  const Precision precision_;
  const Cluster& cluster_;
  const CostTable& costs_;
  internal::Surroundings surroundings_;
  // block, first, last, strategy, next, has stages
  using Key = std::tuple<int, bool, bool, LayerStrategy, LayerStrategy, bool>;
  std::map<Key, internal::LayerPrice> prices_;
  std::map<LayerStrategy, Picoseconds> transfers_;
};

// Forward, recomputation and backward of one micro-batch with all that goes with them.
Picoseconds microbatch_time(const internal::LayerPrice& price);
// What is paid once a step.
Picoseconds step_time(const internal::LayerPrice& price);
// Weights, gradients and optimizer state.
Bytes state_bytes(const internal::LayerPrice& price);

// A stage of consecutive layers on devices [start, start + n).
struct StrategyStage {
  LayerStrategies* strategies = nullptr;
  int start = 0;
  std::vector<LayerStrategy> layers;
};

// The plan with these stages, first to last. Requires plan(layer, strategy) for each of them.
Plan plan_of_stages(const PlanRequest& request,
                    int num_microbatches,
                    Schedule schedule,
                    const std::vector<StrategyStage>& stages);

}  // namespace shardwise::planning
