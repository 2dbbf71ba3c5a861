// attention: b s n r d, b t n d, b t n d -> b s n r d
// n key/value heads, r queries for each (multi-head: r = 1; one key/value head: n = 1). The key
// axis t and the head size d stay whole; s may be sharded: keys and values lack it, so they are
// gathered and their gradients are partial (context parallelism with gathered keys and values).
// Keys of another sequence (cross-attention): t has another size, and nothing is masked.
#include <algorithm>

#include "graph/op_table.h"

namespace shardwise {

namespace {

Flops work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  const auto queries = static_cast<double>(size_of(op, sizes, "b") * size_of(op, sizes, "n") *
                                           size_of(op, sizes, "r") * size_of(op, sizes, "s"));
  const double keys = keys_of_query(op.attributes, size_of(op, sizes, "t"));
  return attention_work(queries * keys, static_cast<double>(size_of(op, sizes, "d")), direction);
}

SavedForBackward saved(const Op& op) {
  return {
      .inputs = {0, 1, 2},
      .outputs = {0},
      .statistics = {
          {"log_sum_exp",
           ElementType::kFloat32,
           {axis_index(op, "b"), axis_index(op, "n"), axis_index(op, "r"), axis_index(op, "s")}}}};
}

}  // namespace

Flops attention_work(double pairs, double width, Direction direction) {
  const double forward = 4 * pairs * width;
  return Flops(direction == Direction::kForward ? forward : 2.5 * forward);
}

double keys_of_query(const OpAttributes& attributes, std::int64_t all_keys) {
  const auto all = static_cast<double>(all_keys);
  const double keys = attributes.causal ? all / 2 : all;
  return attributes.sliding_window > 0
             ? std::min(keys, static_cast<double>(attributes.sliding_window))
             : keys;
}

OpDefinition attention_definition() {
  return {OpKind::kAttention,
          "attention",
          /*splits_backward=*/false,
          /*cheap=*/false,
          work,
          streamed_traffic,
          saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
