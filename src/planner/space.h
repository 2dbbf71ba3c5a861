// The space of plans: which meshes a stage may have, where stages are placed, how boundaries are
// laid out and which axes an op may shard. README.md, "The space", says it in words.
#pragma once

#include <array>
#include <vector>

#include "cost/cost_table.h"
#include "planner/planner.h"

namespace shardwise::planning {

// Whether stages keep to whole nodes (SpaceLimits::StageSizes).
bool is_aligned(const SpaceLimits& limits, const Cluster& cluster);

// What prices of a layer depend on besides the layer itself: equal shapes, equal prices.
struct StageShape {
  Mesh mesh;
  int device_type = 0;
  std::array<GroupPlacement, 1U << kMeshAxes> placements;  // by set of mesh axes

  auto operator<=>(const StageShape&) const = default;
};
StageShape shape_of(const Cluster& cluster, const std::vector<int>& devices, const Mesh& mesh);

// Meshes of `num_devices` devices for micro-batches of `microbatch` sequences. Every axis divides
// what it shards: the data axis the micro-batch; a free axis can shard some axis of some op.
std::vector<Mesh> meshes_of(
    const Graph& graph, int num_devices, int free_axes, const SpaceLimits& limits, bool aligned);

// [n]: whether stages of n devices have a mesh for micro-batches of up to the whole batch.
std::vector<bool> stage_sizes(const Graph& whole_batch,
                              const Cluster& cluster,
                              int free_axes,
                              const SpaceLimits& limits);

// Whether renaming free axes 1 and 2 can change a price: not on one part of the innermost level.
bool order_matters(const StageShape& shape);

// Layouts of a boundary tensor [b, s, h]: the data axis shards b, each free axis replicates or
// shards any dimension that it divides.
std::vector<Layout> boundary_layouts(const std::vector<std::int64_t>& shape, const Mesh& mesh);

// Assignments of an op: the data axis takes b (experts: b or xb), a free axis any axis or none.
// Attention shards its queries' sequence only where 2 x degree chunks divide it.
std::vector<AxisAssignment> assignments_of(const Op& op,
                                           const Mesh& mesh,
                                           const SpaceLimits& limits);

// Number of sequence shards that the assignment gives to attention: Plan::context_chunks of a plan
// is the most of its layers. 1 for other ops.
int context_degree(const Op& op, const AxisAssignment& assignment, const Mesh& mesh);

// Whether chunks of an interleaved plan may differ from each other: decoder layers that are not all
// alike, or constraints, which may treat them so. Such plans are in the space as uniform grids
// only.
bool has_unlike_chunks(const PlanRequest& request);

// Devices of a type in the order of the cluster. Stages take them from the end.
std::vector<std::vector<int>> devices_by_type(const Cluster& cluster);

// Where a stage of `size` devices may go when the last `used` devices of `devices` are taken: right
// before them and, if that place straddles parts of the innermost level that fewer parts could
// hold, at the next place that does not. First index of the stage in `devices`.
// `aligned`: only where it does not straddle, and only sizes that divide a node or are whole nodes.
std::vector<int> places_for(
    const Cluster& cluster, const std::vector<int>& devices, int used, int size, bool aligned);

}  // namespace shardwise::planning
