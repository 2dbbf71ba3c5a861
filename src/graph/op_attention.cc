// attention: b s n r d, b t n d, b t n d -> b s n r d
// n key/value heads, r queries for each (multi-head: r = 1; one key/value head: n = 1). The key
// axis t and the head size d stay whole; s may be sharded: keys and values lack it, so they are
// gathered and their gradients are partial (context parallelism with gathered keys and values).
// Keys of another sequence (cross-attention): t has another size, and nothing is masked.
//
// relative_attention: b s n r d, b t n d, b t n d, k n -> b s n r d
// The same with a learned bias on the scores for each head and bucket of key - query (Raffel et
// al., "Exploring the limits of transfer learning", JMLR 2020, section 2.1). The table [k, n] is
// sharded with the heads; the bias [n, s, t] is spread out inside the kernel.
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

Bytes spread_bias(const Op& op, std::span<const std::int64_t> sizes, std::int64_t element) {
  return Bytes(size_of(op, sizes, "n") * size_of(op, sizes, "r") * size_of(op, sizes, "s") *
               size_of(op, sizes, "t") * element);
}

// Backward holds the gradient of the bias too.
Bytes bias_workspace(const Op& op,
                     std::span<const std::int64_t> sizes,
                     Direction direction,
                     std::int64_t element) {
  const Bytes bias = spread_bias(op, sizes, element);
  return direction == Direction::kForward ? bias : bias + bias;
}

// The bias is written once and read once for each sequence.
Bytes biased_traffic(const Op& op,
                     std::span<const std::int64_t> sizes,
                     Direction direction,
                     std::int64_t element) {
  const std::int64_t passes =
      (1 + size_of(op, sizes, "b")) * (direction == Direction::kForward ? 1 : 2);
  return streamed_traffic(op, sizes, direction, element) +
         Bytes(passes * spread_bias(op, sizes, element).count);
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

OpDefinition relative_attention_definition() {
  return {OpKind::kRelativeAttention,
          "relative_attention",
          /*splits_backward=*/false,
          /*cheap=*/false,
          work,
          biased_traffic,
          saved,
          bias_workspace,
          no_collectives};
}

}  // namespace shardwise
