// Cross entropy against log softmax, whole and with the vocabulary sharded.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/kernel_testing.h"
#include "runtime/thread_communicator.h"

namespace shardwise::testing {
namespace {

KernelCase cross_entropy_case(std::int64_t batch, std::int64_t sequence, std::int64_t vocabulary) {
  BlockBuilder build("block", batch, sequence);
  const TensorIndex logits = build.linear("head",
                                          build.boundary_input(3),
                                          {{"h", 3}},
                                          {{"v", vocabulary, AxisSharding::kPadded}},
                                          false,
                                          0.02);
  build.cross_entropy("loss", logits, build.targets());
  return {std::move(build).build(), 1, [](const auto& inputs, const auto&) {
            const at::Tensor chosen =
                at::log_softmax(inputs[0], -1).gather(-1, inputs[1].unsqueeze(-1));
            return std::vector<at::Tensor>{-kTestLossScale * chosen.sum()};
          }};
}

TEST(CrossEntropyKernel, OddVocabularyIsPaddedWhenSharded) {
  expect_correct_kernel(cross_entropy_case(2, 4, 7));
}

TEST(CrossEntropyKernel, AShardMayHoldOnlyPadding) {
  // 5 columns over 4 ranks: ceil(5 / 4) = 2 each, the last rank has none.
  expect_sharding_changes_nothing(cross_entropy_case(1, 4, 5));
}

TEST(CrossEntropyKernel, MoreThanFitsInCache) {
  // 26 rows of 5,003: runs of 6 rows, the last one of 2.
  expect_agrees_with_autograd(cross_entropy_case(2, 13, 5003));
}

TEST(CrossEntropyKernel, NoTokens) { expect_correct_kernel(cross_entropy_case(2, 0, 7)); }

TEST(CrossEntropyKernel, EqualLogitsGiveTheLogarithmOfTheVocabulary) {
  const KernelCase subject = cross_entropy_case(1, 2, 8);
  Operands operands = random_operands(subject, at::kFloat);
  operands.inputs[0].fill_(300);  // exp(300) overflows fp32: the maximum must be taken off
  // Two tokens of log 8 each, times the scale.
  EXPECT_NEAR(run_whole(subject, operands).outputs[0].item<double>(),
              2 * std::log(8) * kTestLossScale,
              1e-5);  // 300 + log 8 has fp32 spacing 3e-5
}

TEST(CrossEntropyKernel, SendsThePayloadOfItsAccount) {
  const KernelCase subject = cross_entropy_case(2, 4, 8);
  const Op& op = subject.subject();
  const Mesh mesh{{1, 2, 1}};
  AxisAssignment assignment{kUnassigned, kUnassigned, kUnassigned};
  assignment[1] = static_cast<std::int8_t>(axis_index(op, "v"));
  const auto collectives =
      definition_of(op.kind).internal_collectives(op, assignment, mesh, Direction::kForward, 4);
  // 2 ranks x 3 numbers x 8 tokens x 4 bytes.
  ASSERT_EQ(collectives.size(), 1u);
  EXPECT_EQ(collectives[0].payload, Bytes(192));
  const PayloadCounts counts =
      payload_of_sharded_run(subject, random_operands(subject, at::kFloat), mesh, assignment);
  EXPECT_EQ(counts.all_gather, 192);
  EXPECT_EQ(counts.all_reduce + counts.reduce_scatter + counts.all_to_all + counts.sends, 0);
}

}  // namespace
}  // namespace shardwise::testing
