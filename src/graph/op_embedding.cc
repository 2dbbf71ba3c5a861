// embedding:          b s, v h -> b s h    v is summed away: a vocabulary shard leaves its part
// position_embedding: b s h, p h -> b s h  every device holds all positions
#include "graph/op_table.h"

namespace shardwise {

namespace {

SavedForBackward saved_tokens(const Op&) {
  return {.inputs = {0}, .outputs = {}, .statistics = {}};
}

// Rows are gathered: the table itself is not streamed.
Bytes embedding_traffic(const Op& op,
                        std::span<const std::int64_t> sizes,
                        Direction direction,
                        std::int64_t element) {
  const std::int64_t rows = operand_elements(op.outputs[0], sizes, op.axes);
  constexpr std::int64_t kAccumulatorTraffic = 8;  // fp32 read and written
  return direction == Direction::kForward ? Bytes(2 * rows * element)
                                          : Bytes(rows * (element + kAccumulatorTraffic));
}

}  // namespace

OpDefinition embedding_definition() {
  return {OpKind::kEmbedding,
          "embedding",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          embedding_traffic,
          saved_tokens,
          no_workspace,
          no_collectives};
}

OpDefinition position_embedding_definition() {
  return {OpKind::kPositionEmbedding,
          "position_embedding",
          /*splits_backward=*/false,
          /*cheap=*/false,
          no_work,
          embedding_traffic,
          saved_nothing,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
