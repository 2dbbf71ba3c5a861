// window_attention: b s n d, b s n d, b s n d, k n -> b s n d
// Attention inside windows of w x w patches, shifted or not (Liu et al., "Swin transformer", ICCV
// 2021, section 3.2): every patch meets w^2 others. A window's patches are scattered over s, so s
// stays whole; b and n may be sharded, the table of biases [k, n] with the heads.
#include "graph/op_table.h"

namespace shardwise {

namespace {

Flops work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  const auto queries = static_cast<double>(size_of(op, sizes, "b") * size_of(op, sizes, "n") *
                                           size_of(op, sizes, "s"));
  const auto side = static_cast<double>(op.attributes.window);
  return attention_work(
      queries * side * side, static_cast<double>(size_of(op, sizes, "d")), direction);
}

SavedForBackward saved(const Op& op) {
  return {.inputs = {0, 1, 2},
          .outputs = {0},
          .statistics = {{"log_sum_exp",
                          ElementType::kFloat32,
                          {axis_index(op, "b"), axis_index(op, "n"), axis_index(op, "s")}}}};
}

}  // namespace

OpDefinition window_attention_definition() {
  return {OpKind::kWindowAttention,
          "window_attention",
          /*splits_backward=*/false,
          /*cheap=*/false,
          work,
          streamed_traffic,
          saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
