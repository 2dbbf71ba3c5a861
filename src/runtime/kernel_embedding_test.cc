// Embedding and position embedding against autograd of indexing, whole and sharded.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "runtime/kernel_testing.h"

namespace shardwise::testing {
namespace {

KernelCase embedding_case(std::int64_t batch, std::int64_t sequence, std::int64_t vocabulary) {
  BlockBuilder build("block", batch, sequence);
  build.embedding("embedding", build.tokens(), vocabulary, 6, 0.02);
  return {std::move(build).build(),
          0,
          [](const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& parameters) {
            const at::Tensor& tokens = inputs[0];
            return std::vector<at::Tensor>{
                parameters[0]
                    .index_select(0, tokens.reshape({-1}))
                    .reshape({tokens.size(0), tokens.size(1), parameters[0].size(1)})};
          }};
}

KernelCase position_case(std::int64_t batch, std::int64_t sequence, int context_chunks) {
  BlockBuilder build("block", batch, sequence);
  build.position_embedding("positions", build.boundary_input(6), sequence + 3, 0.02);
  return {std::move(build).build(),
          0,
          [=](const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& parameters) {
            const at::Tensor positions =
                at::tensor(token_order(sequence, context_chunks), at::TensorOptions(at::kLong));
            return std::vector<at::Tensor>{inputs[0] + parameters[0].index_select(0, positions)};
          },
          context_chunks};
}

TEST(EmbeddingKernel, OddVocabularyIsPaddedWhenSharded) {
  expect_correct_kernel(embedding_case(2, 4, 7));
}

TEST(EmbeddingKernel, AShardMayHoldOnlyPadding) {
  // 5 rows over 4 ranks: ceil(5 / 4) = 2 each, the last rank has none.
  expect_sharding_changes_nothing(embedding_case(1, 8, 5));
}

TEST(EmbeddingKernel, NoTokens) { expect_correct_kernel(embedding_case(2, 0, 7)); }

TEST(PositionEmbeddingKernel, NaturalOrder) { expect_correct_kernel(position_case(2, 4, 1)); }

TEST(PositionEmbeddingKernel, ZigzagOrder) { expect_correct_kernel(position_case(2, 8, 2)); }

TEST(PositionEmbeddingKernel, NoTokens) { expect_correct_kernel(position_case(2, 0, 1)); }

TEST(TokenOrder, PairsEarlyChunksWithLateOnes) {
  // 2 context chunks: 4 runs of 2 tokens in the order 0, 3, 1, 2.
  EXPECT_EQ(token_order(8, 2), (std::vector<std::int64_t>{0, 1, 6, 7, 2, 3, 4, 5}));
  EXPECT_EQ(token_order(3, 1), (std::vector<std::int64_t>{0, 1, 2}));
}

}  // namespace
}  // namespace shardwise::testing
