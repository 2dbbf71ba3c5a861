// rotary, activation, gated_activation, add: one result element for each input element, so every
// axis may be sharded (but the head size that rotary turns).
#include "graph/op_table.h"

namespace shardwise {

SavedForBackward saved_nothing(const Op&) { return {}; }

SavedForBackward saved_inputs(const Op& op) {
  SavedForBackward saved;
  for (int i = 0; i < static_cast<int>(op.inputs.size()); ++i) {
    saved.inputs.push_back(i);
  }
  return saved;
}

// Not cheap in the sense of selective recomputation: its input would have to be kept instead.
OpDefinition rotary_definition() {
  return {OpKind::kRotary,
          "rotary",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

OpDefinition activation_definition() {
  return {OpKind::kActivation,
          "activation",
          /*splits_backward=*/false,
          /*cheap=*/true,
          no_work,
          streamed_traffic,
          saved_inputs,
          no_workspace,
          no_collectives};
}

OpDefinition gated_activation_definition() {
  return {OpKind::kGatedActivation,
          "gated_activation",
          /*splits_backward=*/false,
          /*cheap=*/true,
          no_work,
          streamed_traffic,
          saved_inputs,
          no_workspace,
          no_collectives};
}

OpDefinition add_definition() {
  return {OpKind::kAdd,
          "add",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          streamed_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
