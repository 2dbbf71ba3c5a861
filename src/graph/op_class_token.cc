// class_token: b u h, h -> b s h    s = u + 1: a learned token before the others
// The tokens move by one, so neither u nor s can be sharded.
#include "graph/op_table.h"

namespace shardwise {

OpDefinition class_token_definition() {
  return {OpKind::kClassToken,
          "class_token",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
