// patch_embedding: b c yy xx, h c k l, h -> b s h
// A convolution whose stride is its kernel: one linear map for each square of k x l pixels. Pixels
// come from the data, so every shard of s or h reads the images it needs; they have no gradient.
#include "graph/op_table.h"

namespace shardwise {

namespace {

Flops work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  double multiply_adds = 1;
  for (const char* axis : {"b", "s", "h", "c", "k", "l"}) {
    multiply_adds *= static_cast<double>(size_of(op, sizes, axis));
  }
  return Flops((direction == Direction::kBackward ? 4 : 2) * multiply_adds);
}

SavedForBackward saved(const Op&) { return {.inputs = {0}, .outputs = {}, .statistics = {}}; }

}  // namespace

OpDefinition patch_embedding_definition() {
  return {OpKind::kPatchEmbedding,
          "patch_embedding",
          /*splits_backward=*/true,
          /*cheap=*/false,
          work,
          streamed_traffic,
          saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
