// attention: b s n r d, b t n d, b t n d -> b s n r d
// n key/value heads, r queries for each (multi-head: r = 1; one key/value head: n = 1). The key
// axis t and the head size d stay whole; s may be sharded: keys and values lack it, so they are
// gathered and their gradients are partial (context parallelism with gathered keys and values).
#include <algorithm>

#include "graph/op_table.h"

namespace shardwise {

namespace {

// Scores that are really computed: half of them under a causal mask (shards of s do even work, see
// Plan::context_chunks), at most `sliding_window` keys for a query.
Flops work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  const auto queries = static_cast<double>(size_of(op, sizes, "b") * size_of(op, sizes, "n") *
                                           size_of(op, sizes, "r") * size_of(op, sizes, "s"));
  const auto all_keys = static_cast<double>(size_of(op, sizes, "t"));
  double keys = op.attributes.causal ? all_keys / 2 : all_keys;
  if (op.attributes.sliding_window > 0) {
    keys = std::min(keys, static_cast<double>(op.attributes.sliding_window));
  }
  const double forward = 4 * queries * keys * static_cast<double>(size_of(op, sizes, "d"));
  // Backward recomputes the scores: 5 products to forward's 2 (Dao, FlashAttention-2, section 3.1).
  return Flops(direction == Direction::kForward ? forward : 2.5 * forward);
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
