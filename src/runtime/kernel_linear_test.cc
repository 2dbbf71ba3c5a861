// linear against autograd of the same products, whole and sharded.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "runtime/kernel_testing.h"

namespace shardwise::testing {
namespace {

using Axes = BlockBuilder::Axes;

std::vector<at::Tensor> reference(const std::vector<at::Tensor>& inputs,
                                  const std::vector<at::Tensor>& parameters) {
  const at::Tensor& x = inputs[0];
  const at::Tensor& weight = parameters[0];
  std::int64_t in = 1;
  for (std::int64_t d = 2; d < x.dim(); ++d) {
    in *= x.size(d);
  }
  const std::int64_t out = weight.numel() / in;
  at::Tensor y =
      at::matmul(x.reshape({x.size(0), x.size(1), in}), weight.reshape({out, in}).transpose(0, 1));
  if (parameters.size() > 1) {
    y = y + parameters[1].reshape({out});
  }
  std::vector<std::int64_t> shape{x.size(0), x.size(1)};
  const auto weight_shape = weight.sizes().vec();
  shape.insert(shape.end(), weight_shape.begin(), weight_shape.end() - (x.dim() - 2));
  return {y.reshape(shape)};
}

KernelCase linear_case(
    std::int64_t batch, std::int64_t sequence, const Axes& in, const Axes& out, bool bias) {
  BlockBuilder build("block", batch, sequence);
  if (in.size() == 1) {
    build.linear("linear", build.boundary_input(in[0].size), in, out, bias, 0.02);
    return {std::move(build).build(), 0, reference};
  }
  // Several input axes: the output of another linear.
  const TensorIndex x = build.linear("first", build.boundary_input(3), {{"i", 3}}, in, false, 0.02);
  build.linear("linear", x, in, out, bias, 0.02);
  return {std::move(build).build(), 1, reference};
}

TEST(LinearKernel, OneAxisEachWithBias) {
  expect_correct_kernel(linear_case(2, 4, {{"h", 6}}, {{"f", 10}}, true));
}

TEST(LinearKernel, OneAxisEachWithoutBiasOnOddSizes) {
  const KernelCase subject = linear_case(1, 3, {{"h", 5}}, {{"f", 7}}, false);
  expect_agrees_with_autograd(subject);
  expect_agrees_with_finite_differences(subject);
}

TEST(LinearKernel, SeveralOutputAxes) {
  expect_correct_kernel(
      linear_case(2, 2, {{"h", 6}}, {{"n", 2}, {"r", 2}, {"d", 3, AxisSharding::kNever}}, true));
}

TEST(LinearKernel, SeveralInputAxes) {
  expect_correct_kernel(
      linear_case(2, 2, {{"n", 2}, {"r", 4}, {"d", 3, AxisSharding::kNever}}, {{"h", 6}}, true));
}

TEST(LinearKernel, PaddedVocabulary) {
  // 7 columns over 2 ranks: 4 + 4 with one of padding, over 4 ranks: 2 each.
  expect_correct_kernel(linear_case(2, 2, {{"h", 4}}, {{"v", 7, AxisSharding::kPadded}}, false));
}

TEST(LinearKernel, NoTokens) {
  expect_correct_kernel(linear_case(2, 0, {{"h", 6}}, {{"f", 4}}, true));
}

}  // namespace
}  // namespace shardwise::testing
