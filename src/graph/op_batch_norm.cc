// batch_norm: b c y x, c, c -> b c y x
// Mean and variance of a channel go over the whole micro-batch, so that every plan trains the same
// model: a shard of b adds its two sums to those of the others (one all-reduce of 2 c fp32 numbers
// forward, and one of the two sums of backward; Ioffe and Szegedy, ICML 2015, section 3).
#include "graph/op_table.h"

namespace shardwise {

namespace {

SavedForBackward saved(const Op& op) {
  return {.inputs = {0},
          .outputs = {},
          .statistics = {{"mean", ElementType::kFloat32, {axis_index(op, "c")}},
                         {"rstd", ElementType::kFloat32, {axis_index(op, "c")}}}};
}

std::vector<InternalCollective> collectives(
    const Op& op, const AxisAssignment& assignment, const Mesh& mesh, Direction, std::int64_t) {
  std::vector<InternalCollective> all;
  const std::int64_t channels = size_of(op, local_axis_sizes(op, assignment, mesh), "c");
  for (int m = 0; m < kMeshAxes; ++m) {
    const int axis = assignment[static_cast<std::size_t>(m)];
    if (axis != kUnassigned && axis == axis_index(op, "b")) {
      constexpr std::int64_t kSums = 2;
      constexpr std::int64_t kFloat = 4;
      constexpr std::int64_t kAllReduce = 2;  // payload convention: twice the bytes
      all.push_back({.kind = CollectiveKind::kAllReduce,
                     .mesh_axis = m,
                     .payload = Bytes(kAllReduce * kSums * channels * kFloat)});
    }
  }
  return all;
}

}  // namespace

OpDefinition batch_norm_definition() {
  return {OpKind::kBatchNorm,
          "batch_norm",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved,
          no_workspace,
          collectives};
}

}  // namespace shardwise
