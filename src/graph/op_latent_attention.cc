// latent_attention: b s n d, b t n c, b t p, b t n w -> b s n w
// Multi-head latent attention once keys and values are spread out from their latent (DeepSeek-AI,
// "DeepSeek-V2", 2024, section 2.1): every head's key is its own part [c] beside a rotary part [p]
// that all heads share; d = c + p. n, b and s may be sharded: a head shard leaves the gradient of
// the shared part partial, a shard of s those of all keys and values.
#include "graph/op_table.h"

namespace shardwise {

namespace {

Flops work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  const auto queries = static_cast<double>(size_of(op, sizes, "b") * size_of(op, sizes, "n") *
                                           size_of(op, sizes, "s"));
  const double keys = keys_of_query(op.attributes, size_of(op, sizes, "t"));
  const auto widths = static_cast<double>(size_of(op, sizes, "d") + size_of(op, sizes, "w"));
  return attention_work(queries * keys, widths / 2, direction);
}

SavedForBackward saved(const Op& op) {
  return {.inputs = {0, 1, 2, 3},
          .outputs = {0},
          .statistics = {{"log_sum_exp",
                          ElementType::kFloat32,
                          {axis_index(op, "b"), axis_index(op, "n"), axis_index(op, "s")}}}};
}

}  // namespace

OpDefinition latent_attention_definition() {
  return {OpKind::kLatentAttention,
          "latent_attention",
          /*splits_backward=*/false,
          /*cheap=*/false,
          work,
          streamed_traffic,
          saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
