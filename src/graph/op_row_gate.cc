// row_gate: b s h, b s g -> b s h    y times function(gate), one gate (g = 1) for each token
// h may be sharded: the gate lacks it, so its gradient is partial.
#include "graph/op_table.h"

namespace shardwise {

OpDefinition row_gate_definition() {
  return {OpKind::kRowGate,
          "row_gate",
          /*splits_backward=*/false,
          /*cheap=*/true,
          no_work,
          streamed_traffic,
          saved_inputs,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
