// Activations against their formulas, whole and sharded.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/errors.h"
#include "runtime/activation_function.h"
#include "runtime/kernel_testing.h"

namespace shardwise::testing {
namespace {

at::Tensor formula(const std::string& function, const at::Tensor& x) {
  if (function == "gelu") {
    return 0.5 * x * (1 + at::erf(x / std::numbers::sqrt2));
  }
  if (function == "gelu_tanh") {
    return 0.5 * x * (1 + at::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
  }
  return function == "silu" ? x * at::sigmoid(x) : at::relu(x);
}

class EveryFunction : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryFunction, Activation) {
  const std::string function = GetParam();
  BlockBuilder build("block", 2, 4);
  build.activation("activation", build.boundary_input(6), function);
  expect_correct_kernel({std::move(build).build(), 0, [function](const auto& inputs, const auto&) {
                           return std::vector<at::Tensor>{formula(function, inputs[0])};
                         }});
}

TEST_P(EveryFunction, GatedActivation) {
  const std::string function = GetParam();
  BlockBuilder build("block", 2, 4);
  const TensorIndex gate = build.boundary_input(6);
  build.gated_activation("gated", gate, build.boundary_input(6), function);
  expect_correct_kernel({std::move(build).build(), 0, [function](const auto& inputs, const auto&) {
                           return std::vector<at::Tensor>{formula(function, inputs[0]) * inputs[1]};
                         }});
}

INSTANTIATE_TEST_SUITE_P(Activations,
                         EveryFunction,
                         ::testing::Values("gelu", "gelu_tanh", "relu", "silu"));

KernelCase gated_case(std::int64_t sequence, std::int64_t width) {
  BlockBuilder build("block", 2, sequence);
  const TensorIndex gate = build.boundary_input(width);
  build.gated_activation("gated", gate, build.boundary_input(width), "silu");
  return {std::move(build).build(), 0, [](const auto& inputs, const auto&) {
            return std::vector<at::Tensor>{formula("silu", inputs[0]) * inputs[1]};
          }};
}

TEST(GatedActivationKernel, NoTokens) { expect_correct_kernel(gated_case(0, 6)); }

TEST(GatedActivationKernel, MoreThanFitsInCache) {
  // 2 * 77 * 513 = 79,002 elements: three runs, the last one short.
  expect_agrees_with_autograd(gated_case(77, 513));
}

TEST(AddKernel, AddsIntoADyingOperand) {
  BlockBuilder build("block", 1, 3);
  const TensorIndex x = build.boundary_input(5);
  build.add("add", x, build.boundary_input(5));
  const KernelCase subject{std::move(build).build(), 0, [](const auto& inputs, const auto&) {
                             return std::vector<at::Tensor>{inputs[0] + inputs[1]};
                           }};
  expect_agrees_with_autograd(subject);
  const Operands operands = random_operands(subject, at::kFloat);
  const at::Tensor expected = operands.inputs[0] + operands.inputs[1];
  const at::Tensor sum =
      kernel_of(OpKind::kAdd)
          .forward(whole_context(subject, operands), operands.inputs, operands.inputs[1])[0];
  EXPECT_TRUE(sum.equal(expected));
  EXPECT_EQ(sum.data_ptr(), operands.inputs[1].data_ptr());
}

TEST(ActivationFunction, UnknownNameIsRefusedByName) {
  try {
    activation_function("swishish");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("swishish"), std::string::npos);
  }
}

}  // namespace
}  // namespace shardwise::testing
