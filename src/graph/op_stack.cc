// stack:   b s h, b s h -> b s p h    p = 2: two tensors side by side, so that layers hand on one
// unstack: b s p h -> b s h, b s h
// Views: nothing is computed or moved, in either direction.
#include "graph/op_table.h"

namespace shardwise {

namespace {

Bytes no_traffic(const Op&, std::span<const std::int64_t>, Direction, std::int64_t) {
  return Bytes(0);
}

OpDefinition view(OpKind kind, std::string_view name) {
  return {kind,
          name,
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          no_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

}  // namespace

OpDefinition stack_definition() { return view(OpKind::kStack, "stack"); }
OpDefinition unstack_definition() { return view(OpKind::kUnstack, "unstack"); }

}  // namespace shardwise
