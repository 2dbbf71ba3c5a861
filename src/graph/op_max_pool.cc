// max_pool: b c yy xx -> b c y x    the largest of window x window neighbours, every `stride`
// pixels Backward needs to know which one it was: indices of the size of the output.
#include "graph/op_table.h"

namespace shardwise {

namespace {

SavedForBackward saved(const Op& op) {
  return {
      .inputs = {},
      .outputs = {},
      .statistics = {
          {"indices",
           ElementType::kInt64,
           {axis_index(op, "b"), axis_index(op, "c"), axis_index(op, "y"), axis_index(op, "x")}}}};
}

}  // namespace

OpDefinition max_pool_definition() {
  return {OpKind::kMaxPool,
          "max_pool",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
