// conv2d: b c yy xx, o c k l -> b o y x
// Channels shard like the sides of a linear: o leaves the output sharded, c leaves it partial. Rows
// and columns stay whole: their shards would exchange borders.
#include "graph/op_table.h"

namespace shardwise {

namespace {

// The gradients of input and weight take as much as the result.
Flops work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  double multiply_adds = 1;
  for (const char* axis : {"b", "y", "x", "o", "c", "k", "l"}) {
    multiply_adds *= static_cast<double>(size_of(op, sizes, axis));
  }
  return Flops((direction == Direction::kBackward ? 4 : 2) * multiply_adds);
}

SavedForBackward saved(const Op&) { return {.inputs = {0}, .outputs = {}, .statistics = {}}; }

}  // namespace

OpDefinition conv2d_definition() {
  return {OpKind::kConv2d,
          "conv2d",
          /*splits_backward=*/true,
          /*cheap=*/false,
          work,
          streamed_traffic,
          saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
