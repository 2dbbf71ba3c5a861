// linear: b s i.., o.. i.. (+ o..) -> b s o..
// Column parallel = a mesh axis on o (output sharded), row parallel = on i (output partial).
#include "graph/op_table.h"

namespace shardwise {

namespace {

Flops work(const Op&, std::span<const std::int64_t> sizes, Direction direction) {
  double multiply_adds = 1;
  for (const std::int64_t size : sizes) {
    multiply_adds *= static_cast<double>(size);
  }
  return Flops((direction == Direction::kBackward ? 4 : 2) * multiply_adds);
}

SavedForBackward saved(const Op&) { return {.inputs = {0}, .outputs = {}, .statistics = {}}; }

}  // namespace

OpDefinition linear_definition() {
  return {OpKind::kLinear,
          "linear",
          /*splits_backward=*/true,
          /*cheap=*/false,
          work,
          streamed_traffic,
          saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
