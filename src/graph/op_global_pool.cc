// global_pool: b c y x -> b o c    o = 1: the mean over a map
#include "graph/op_table.h"

namespace shardwise {

OpDefinition global_pool_definition() {
  return {OpKind::kGlobalPool,
          "global_pool",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
