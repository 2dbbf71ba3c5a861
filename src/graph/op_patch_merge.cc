// patch_merge: b u h -> b s m    s = u / 4, m = 4 h: squares of 2 x 2 neighbours side by side
// Neighbours are scattered over u and their features over m: only b may be sharded.
#include "graph/op_table.h"

namespace shardwise {

OpDefinition patch_merge_definition() {
  return {OpKind::kPatchMerge,
          "patch_merge",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
