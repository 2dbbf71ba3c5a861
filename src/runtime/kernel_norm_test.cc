// Norms against their formulas, whole and sharded.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "runtime/kernel_testing.h"

namespace shardwise::testing {
namespace {

constexpr double kEpsilon = 1e-3;

KernelCase layer_norm_case(std::int64_t sequence, std::int64_t width) {
  BlockBuilder build("block", 2, sequence);
  build.layer_norm("norm", build.boundary_input(width), kEpsilon);
  return {std::move(build).build(), 0, [](const auto& inputs, const auto& parameters) {
            const at::Tensor centred = inputs[0] - inputs[0].mean(-1, /*keepdim=*/true);
            const at::Tensor variance = (centred * centred).mean(-1, /*keepdim=*/true);
            return std::vector<at::Tensor>{
                centred * at::rsqrt(variance + kEpsilon) * parameters[0] + parameters[1]};
          }};
}

std::vector<at::Tensor> rms_reference(const std::vector<at::Tensor>& inputs,
                                      const std::vector<at::Tensor>& parameters) {
  const at::Tensor mean_square = (inputs[0] * inputs[0]).mean(-1, /*keepdim=*/true);
  return {inputs[0] * at::rsqrt(mean_square + kEpsilon) * parameters[0]};
}

KernelCase rms_norm_case(std::int64_t sequence, std::int64_t width) {
  BlockBuilder build("block", 2, sequence);
  build.rms_norm("norm", build.boundary_input(width), kEpsilon);
  return {std::move(build).build(), 0, rms_reference};
}

TEST(LayerNormKernel, OddWidth) { expect_correct_kernel(layer_norm_case(4, 7)); }

TEST(LayerNormKernel, NoTokens) { expect_correct_kernel(layer_norm_case(0, 7)); }

TEST(RmsNormKernel, OddWidth) { expect_correct_kernel(rms_norm_case(4, 7)); }

TEST(RmsNormKernel, NoTokens) { expect_correct_kernel(rms_norm_case(0, 7)); }

TEST(RmsNormKernel, MoreThanFitsInCache) {
  // 66 rows of 1,001: runs of 32 rows, the last one of 2.
  expect_agrees_with_autograd(rms_norm_case(33, 1001));
}

TEST(RmsNormKernel, OfEveryHead) {
  // Queries [b, s, n, r, d]: the norm is over d only, as Qwen3's.
  BlockBuilder build("block", 2, 2);
  const TensorIndex q = build.linear("q",
                                     build.boundary_input(3),
                                     {{"h", 3}},
                                     {{"n", 2}, {"r", 2}, {"d", 5, AxisSharding::kNever}},
                                     false,
                                     0.02);
  build.rms_norm("norm", q, kEpsilon);
  expect_correct_kernel({std::move(build).build(), 1, rms_reference});
}

}  // namespace
}  // namespace shardwise::testing
