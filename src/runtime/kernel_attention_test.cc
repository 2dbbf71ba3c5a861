// Attention against explicit scores, masks and softmax: multi-head, grouped queries, windows,
// context-parallel shards in zigzag order.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "runtime/attention.h"
#include "runtime/kernel_testing.h"

namespace shardwise::testing {
namespace {

struct Shape {
  std::int64_t batch = 2;
  std::int64_t sequence = 8;
  std::int64_t groups = 2;   // key heads
  std::int64_t queries = 1;  // for each
  std::int64_t width = 4;    // of a head
  bool causal = true;
  std::int64_t window = 0;
  int context_chunks = 1;
};

constexpr double kScale = 0.37;

// Scores of all pairs by position; hidden ones get -inf before the softmax.
at::Tensor explicit_attention(const Shape& shape, const std::vector<at::Tensor>& inputs) {
  const at::Tensor position =
      at::tensor(token_order(shape.sequence, shape.context_chunks), at::TensorOptions(at::kLong));
  const at::Tensor distance = position.unsqueeze(1) - position.unsqueeze(0);
  at::Tensor hidden = at::zeros_like(distance).to(at::kBool);
  if (shape.causal) {
    hidden = hidden.logical_or(distance.lt(0));
  }
  if (shape.window > 0) {
    hidden = hidden.logical_or(distance.ge(shape.window));
  }
  const at::Tensor scores = at::einsum("bsnrd,btnd->bnrst", {inputs[0], inputs[1]}) * kScale;
  const at::Tensor weights =
      at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1);
  return at::einsum("bnrst,btnd->bsnrd", {weights, inputs[2]});
}

KernelCase attention_case(const Shape& shape) {
  const LoopAxis n{"n", shape.groups, AxisSharding::kEven};
  const LoopAxis r{"r", shape.queries, AxisSharding::kEven};
  const LoopAxis d{"d", shape.width, AxisSharding::kNever};
  BlockBuilder build("block", shape.batch, shape.sequence);
  const TensorIndex x = build.boundary_input(3);
  const TensorIndex q = build.linear("q", x, {{"h", 3}}, {n, r, d}, false, 0.02);
  const TensorIndex k = build.linear("k", x, {{"h", 3}}, {n, d}, false, 0.02);
  const TensorIndex v = build.linear("v", x, {{"h", 3}}, {n, d}, false, 0.02);
  build.attention("attention",
                  q,
                  k,
                  v,
                  {.causal = shape.causal, .scale = kScale, .sliding_window = shape.window});
  return {std::move(build).build(),
          3,
          [shape](const auto& inputs, const auto&) {
            return std::vector<at::Tensor>{explicit_attention(shape, inputs)};
          },
          shape.context_chunks};
}

TEST(AttentionKernel, MultiHeadCausal) { expect_correct_kernel(attention_case({})); }

TEST(AttentionKernel, Bidirectional) { expect_correct_kernel(attention_case({.causal = false})); }

TEST(AttentionKernel, GroupedQueries) {
  expect_correct_kernel(attention_case({.sequence = 4, .groups = 2, .queries = 2}));
}

TEST(AttentionKernel, OneKeyHead) {
  expect_correct_kernel(attention_case({.sequence = 4, .groups = 1, .queries = 4}));
}

TEST(AttentionKernel, OddSizes) {
  const KernelCase subject =
      attention_case({.batch = 1, .sequence = 37, .groups = 3, .queries = 3, .width = 5});
  expect_agrees_with_autograd(subject);
  expect_agrees_with_finite_differences(subject);
}

TEST(AttentionKernel, OneToken) {
  expect_agrees_with_autograd(attention_case({.batch = 1, .sequence = 1}));
}

TEST(AttentionKernel, NoTokens) { expect_correct_kernel(attention_case({.sequence = 0})); }

TEST(AttentionKernel, NoSequences) { expect_correct_kernel(attention_case({.batch = 0})); }

TEST(AttentionKernel, ZigzagOrder) {
  expect_correct_kernel(attention_case({.sequence = 8, .queries = 2, .context_chunks = 2}));
}

TEST(AttentionKernel, ZigzagOrderOnOtherDegrees) {
  // 6 chunks of 2 tokens: a shard of 6 or 3 tokens cuts through runs.
  expect_sharding_changes_nothing(attention_case({.sequence = 12, .context_chunks = 3}));
}

TEST(AttentionKernel, SlidingWindow) {
  expect_correct_kernel(attention_case({.sequence = 8, .window = 3}));
}

TEST(AttentionKernel, SlidingWindowInZigzagOrder) {
  expect_correct_kernel(attention_case({.sequence = 8, .window = 3, .context_chunks = 2}));
}

TEST(AttentionKernel, SlidingWindowOverSeveralBlocks) {
  // Blocks of 64 queries: 150 = 64 + 64 + 22.
  expect_agrees_with_autograd(
      attention_case({.batch = 1, .sequence = 150, .queries = 2, .window = 10}));
}

TEST(AttentionKernel, WindowOfTheWholeSequenceIsNone) {
  const Shape shape{.sequence = 6, .window = 6};
  const KernelCase subject = attention_case(shape);
  const Operands operands = random_operands(subject, at::kDouble);
  expect_equal_results(
      run_whole(subject, operands), run_whole(attention_case({.sequence = 6}), operands), 0);
}

TEST(AttentionPieces, WholeSequenceIsOneCausalPiece) {
  EXPECT_EQ(attention_pieces({0, 1, 2}, 3, {}),
            (std::vector<AttentionPiece>{{0, 3, 0, 3, AttentionPiece::Mask::kCausal, 0}}));
}

TEST(AttentionPieces, RunsSeeTheKeysBeforeThemWhole) {
  // Context shard with chunks 0 and 3 of four chunks of 2: the second run starts at position 6.
  using Mask = AttentionPiece::Mask;
  EXPECT_EQ(attention_pieces({0, 1, 6, 7}, 8, {}),
            (std::vector<AttentionPiece>{{0, 2, 0, 2, Mask::kCausal, 0},
                                         {2, 2, 0, 6, Mask::kNone, 6},
                                         {2, 2, 6, 2, Mask::kCausal, 6}}));
}

TEST(AttentionPieces, WindowLimitsTheKeys) {
  // 130 queries, window 5: blocks of 64; the second one starts at 64 and sees keys from 60.
  using Mask = AttentionPiece::Mask;
  std::vector<std::int64_t> positions(130);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    positions[i] = static_cast<std::int64_t>(i);
  }
  EXPECT_EQ(attention_pieces(positions, 130, {.window = 5}),
            (std::vector<AttentionPiece>{{0, 64, 0, 64, Mask::kWindow, 0},
                                         {64, 64, 60, 68, Mask::kWindow, 64},
                                         {128, 2, 124, 6, Mask::kWindow, 128}}));
}

}  // namespace
}  // namespace shardwise::testing
