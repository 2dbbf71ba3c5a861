// cross_entropy: b s v, b s -> scalar
// A vocabulary shard computes, for each token, the maximum, the sum of exponentials below it and
// the target's logit (0 if another shard has it): one all-gather of these three fp32 numbers for
// each mesh axis that shards v, in mesh order, gives every shard the whole log-sum-exp.
#include "graph/op_table.h"

namespace shardwise {

namespace {

SavedForBackward saved(const Op& op) {
  return {.inputs = {0, 1},
          .outputs = {},
          .statistics = {
              {"log_sum_exp", ElementType::kFloat32, {axis_index(op, "b"), axis_index(op, "s")}}}};
}

std::vector<InternalCollective> internal_collectives(const Op& op,
                                                     const AxisAssignment& assignment,
                                                     const Mesh& mesh,
                                                     Direction direction,
                                                     std::int64_t) {
  std::vector<InternalCollective> collectives;
  if (direction != Direction::kForward) {
    return collectives;
  }
  const std::vector<std::int64_t> sizes = local_axis_sizes(op, assignment, mesh);
  const std::int64_t tokens = size_of(op, sizes, "b") * size_of(op, sizes, "s");
  for (int m = 0; m < kMeshAxes; ++m) {
    const auto axis = static_cast<std::size_t>(m);
    if (assignment[axis] != kUnassigned && assignment[axis] == axis_index(op, "v")) {
      constexpr std::int64_t kNumbers = 3;  // maximum, sum, target's logit
      constexpr std::int64_t kFloat = 4;
      collectives.push_back({.kind = CollectiveKind::kAllGather,
                             .mesh_axis = m,
                             .payload = Bytes(mesh.sizes[axis] * kNumbers * tokens * kFloat)});
    }
  }
  return collectives;
}

}  // namespace

OpDefinition cross_entropy_definition() {
  return {OpKind::kCrossEntropy,
          "cross_entropy",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved,
          no_workspace,
          internal_collectives};
}

}  // namespace shardwise
