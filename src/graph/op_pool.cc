// pool: b s h -> b o h    o = 1: the first token, or the mean over s
// s stays whole.
#include "graph/op_table.h"

namespace shardwise {

OpDefinition pool_definition() {
  return {OpKind::kPool,
          "pool",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
