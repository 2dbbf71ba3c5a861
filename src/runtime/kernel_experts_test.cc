// Router and experts against dense formulas: every expert computes every token, weights of experts
// that were not chosen are zero. Whole, and with tokens, experts and their widths sharded.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "runtime/kernel_testing.h"

namespace shardwise::testing {
namespace {

struct Shape {
  std::int64_t batch = 4;
  std::int64_t sequence = 4;
  std::int64_t width = 6;
  std::int64_t experts = 4;
  std::int64_t chosen = 2;
  std::int64_t ffn = 8;
  bool normalize = true;
};

Block block_of(const Shape& shape) {
  BlockBuilder build("block", shape.batch, shape.sequence);
  const TensorIndex x = build.boundary_input(shape.width);
  const BlockBuilder::Routing routing =
      build.router("router", x, shape.experts, shape.chosen, shape.normalize, 0.02);
  build.experts("experts", x, routing, shape.experts, shape.ffn, "silu", 0.02, 0.02);
  return std::move(build).build();
}

KernelCase router_case(const Shape& shape) {
  return {block_of(shape), 0, [shape](const auto& inputs, const auto& parameters) {
            const at::Tensor probabilities =
                at::softmax(at::matmul(inputs[0], parameters[0].transpose(0, 1)), -1);
            auto [weights, ids] = at::topk(probabilities, shape.chosen, -1);
            if (shape.normalize) {
              weights = weights / weights.sum(-1, /*keepdim=*/true);
            }
            return std::vector<at::Tensor>{weights, ids};
          }};
}

std::vector<at::Tensor> dense_experts(const std::vector<at::Tensor>& inputs,
                                      const std::vector<at::Tensor>& parameters) {
  const at::Tensor& x = inputs[0];
  const at::Tensor gate = at::einsum("bsh,efh->bsef", {x, parameters[0]});
  const at::Tensor up = at::einsum("bsh,efh->bsef", {x, parameters[1]});
  const at::Tensor results =
      at::einsum("bsef,ehf->bseh", {gate * at::sigmoid(gate) * up, parameters[2]});
  const at::Tensor weights = at::zeros({x.size(0), x.size(1), parameters[0].size(0)}, x.options())
                                 .scatter(-1, inputs[2], inputs[1]);
  return {at::einsum("bse,bseh->bsh", {weights, results})};
}

KernelCase experts_case(const Shape& shape) { return {block_of(shape), 1, dense_experts}; }

AxisAssignment on_first_free_axis(const Op& op, const char* axis) {
  return {kUnassigned, static_cast<std::int8_t>(axis_index(op, axis)), kUnassigned};
}

TEST(RouterKernel, NormalisedWeights) { expect_correct_kernel(router_case({})); }

TEST(RouterKernel, PlainProbabilities) { expect_correct_kernel(router_case({.normalize = false})); }

TEST(RouterKernel, OneExpertForEachToken) {
  // Its normalised weight is 1 whatever the logits: gradients vanish.
  expect_correct_kernel(router_case({.chosen = 1}));
}

TEST(RouterKernel, NoTokens) { expect_correct_kernel(router_case({.sequence = 0})); }

TEST(ExpertsKernel, EveryWayToShardThem) { expect_correct_kernel(experts_case({})); }

TEST(ExpertsKernel, OddSizes) {
  const KernelCase subject =
      experts_case({.batch = 1, .sequence = 5, .width = 3, .experts = 5, .chosen = 3, .ffn = 7});
  expect_agrees_with_autograd(subject);
  expect_agrees_with_finite_differences(subject);
  expect_overwrites_accumulators(subject);
}

TEST(ExpertsKernel, NoTokens) { expect_correct_kernel(experts_case({.sequence = 0})); }

// All tokens choose experts 1 and 2 of 4: 0 and 3 stay without tokens.
Operands two_experts_for_all(const KernelCase& subject) {
  Operands operands = random_operands(subject, at::kDouble);
  operands.inputs[2].select(-1, 0).fill_(2);
  operands.inputs[2].select(-1, 1).fill_(1);
  return operands;
}

TEST(ExpertsKernel, ExpertsWithoutTokensGetNoGradient) {
  const KernelCase subject = experts_case({});
  const Operands operands = two_experts_for_all(subject);
  const KernelResults results = run_whole(subject, operands);
  expect_close(results.outputs[0], dense_experts(operands.inputs, operands.parameters)[0], 1e-12);
  for (const at::Tensor& gradient : results.parameter_gradients) {
    EXPECT_EQ(gradient[0].abs().sum().item<double>(), 0);
    EXPECT_EQ(gradient[3].abs().sum().item<double>(), 0);
    EXPECT_GT(gradient[1].abs().sum().item<double>(), 0);
  }
}

TEST(ExpertsKernel, OneRankMayGetAllTokens) {
  const KernelCase subject = experts_case({});
  Operands operands = two_experts_for_all(subject);
  operands.inputs[2].select(-1, 1).fill_(3);  // experts 2 and 3: both on the second of two ranks
  const KernelResults expected = run_whole(subject, operands);
  for (const char* axis : {"e", "xb", "xs", "f"}) {
    SCOPED_TRACE(axis);
    expect_equal_results(
        run_sharded(
            subject, operands, Mesh{{1, 2, 1}}, on_first_free_axis(subject.subject(), axis)),
        expected,
        1e-12);
  }
}

TEST(ExpertsKernel, ExchangeSendsThePayloadOfItsAccountUnderEvenRouting) {
  const KernelCase subject = experts_case({});
  const Op& op = subject.subject();
  const Mesh mesh{{1, 2, 1}};
  const AxisAssignment assignment = on_first_free_axis(op, "xb");
  Operands operands = random_operands(subject, at::kFloat);
  operands.inputs[2].select(-1, 0).fill_(0);  // one expert of the first rank,
  operands.inputs[2].select(-1, 1).fill_(2);  // one of the second
  std::int64_t expected = 0;
  for (const Direction direction : {Direction::kForward, Direction::kBackward}) {
    for (const InternalCollective& collective :
         definition_of(op.kind).internal_collectives(op, assignment, mesh, direction, 4)) {
      EXPECT_EQ(collective.kind, CollectiveKind::kAllToAll);
      expected += collective.payload.count;
    }
  }
  const PayloadCounts counts = payload_of_sharded_run(subject, operands, mesh, assignment);
  // 16 (token, expert) pairs on each rank; rows of 6 numbers: 5 exchanges, of one number: 2.
  EXPECT_EQ(expected, 16 * 4 * (5 * 6 + 2));
  EXPECT_EQ(counts.all_to_all, expected);
}

TEST(ExpertsKernel, CountsTheRowsItRoutes) {
  const KernelCase subject = experts_case({.batch = 2, .sequence = 3});
  const Operands operands = two_experts_for_all(subject);
  KernelContext context = whole_context(subject, operands);
  std::vector<std::int64_t> counts;
  context.routed_counts = &counts;
  kernel_of(OpKind::kExperts).forward(context, operands.inputs, {});
  // No exchange: only the rows computed, 6 tokens x 2 experts.
  EXPECT_EQ(counts, std::vector<std::int64_t>{12});
}

}  // namespace
}  // namespace shardwise::testing
