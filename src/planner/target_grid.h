// One layout for all layers on all stages: what frameworks that know no layers can be told. Spelled
// out as layers' plans.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "graph/plan.h"

namespace shardwise::planning {

// What a mesh axis shards in every layer. kQueries: as kTensor, but the queries of each key/value
// head instead of heads.
enum class GridRole { kNone, kData, kContext, kTensor, kQueries };

struct TargetGrid {
  Mesh mesh;
  std::array<GridRole, kMeshAxes> roles{};
  bool sequence_parallel = false;  // norms and residual adds shard the sequence over tensor axes
  // Experts travel along the axis (data) or stand whole on its ranks (tensor), instead of being
  // repeated or cut.
  std::array<bool, kMeshAxes> spreads_experts{};
  StateSharding state = StateSharding::kNone;
  Recompute recompute = Recompute::kNone;  // of all layers but the first and the last
};

// All grids on a mesh but for state and recomputation; those that do not fit the model included.
// Each role has one axis: frameworks reduce over all ranks of a role at once.
void for_each_grid(const Graph& graph,
                   const Mesh& mesh,
                   const std::function<void(const TargetGrid&)>& visit);

// The boundary between layers: sharded as norms and residual adds are.
Layout grid_boundary(const TargetGrid& grid);

// The plan of a layer, or nothing if an axis does not divide what it shards.
std::optional<LayerPlan> grid_layer(const Graph& graph, int layer, const TargetGrid& grid);

// All layers on stages of the grid's mesh: stage s on devices [start + s n, start + (s + 1) n),
// chunk c of it with counts[c P + s] layers.
Plan grid_plan(const Graph& graph,
               const TargetGrid& grid,
               const std::vector<LayerPlan>& layers,
               int start,
               int num_stages,
               const std::vector<int>& counts);

}  // namespace shardwise::planning
