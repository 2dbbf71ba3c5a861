// Rotary positions against transformers' formula: x cos + rotate_half(x) sin.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/errors.h"
#include "runtime/kernel_testing.h"
#include "runtime/rotary_table.h"

namespace shardwise::testing {
namespace {

OpAttributes rope(double theta,
                  std::int64_t dims,
                  const std::string& type = "",
                  const std::vector<double>& parameters = {}) {
  OpAttributes attributes;
  attributes.rope_theta = theta;
  attributes.rotary_dims = dims;
  attributes.rope_type = type;
  attributes.rope_parameters = parameters;
  return attributes;
}

at::Tensor rotate_half(const at::Tensor& x) {
  const std::int64_t half = x.size(-1) / 2;
  return at::cat({-x.narrow(-1, half, half), x.narrow(-1, 0, half)}, -1);
}

KernelCase rotary_case(std::int64_t sequence,
                       std::int64_t head,
                       const OpAttributes& attributes,
                       int context_chunks = 1) {
  BlockBuilder build("block", 2, sequence);
  const TensorIndex q = build.linear("q",
                                     build.boundary_input(3),
                                     {{"h", 3}},
                                     {{"n", 2}, {"r", 2}, {"d", head, AxisSharding::kNever}},
                                     false,
                                     0.02);
  build.rotary("rotary", q, attributes);
  return {std::move(build).build(),
          1,
          [=](const auto& inputs, const auto&) {
            const at::Tensor& x = inputs[0];
            const std::int64_t dims = attributes.rotary_dims;
            const at::Tensor frequencies =
                at::tensor(rotary_frequencies(attributes), at::TensorOptions(at::kDouble));
            const at::Tensor positions =
                at::tensor(token_order(sequence, context_chunks), at::TensorOptions(at::kLong));
            const at::Tensor angles = at::outer(positions.to(at::kDouble), frequencies)
                                          .repeat({1, 2})
                                          .view({1, sequence, 1, 1, dims});
            const at::Tensor turned = x.narrow(-1, 0, dims);
            const at::Tensor result = turned * at::cos(angles).to(x.scalar_type()) +
                                      rotate_half(turned) * at::sin(angles).to(x.scalar_type());
            return std::vector<at::Tensor>{at::cat({result, x.narrow(-1, dims, head - dims)}, -1)};
          },
          context_chunks};
}

TEST(RotaryKernel, WholeHead) { expect_correct_kernel(rotary_case(4, 6, rope(10000, 6))); }

TEST(RotaryKernel, PartOfTheHead) { expect_correct_kernel(rotary_case(4, 7, rope(100, 4))); }

TEST(RotaryKernel, ZigzagOrder) { expect_correct_kernel(rotary_case(8, 4, rope(100, 4), 2)); }

TEST(RotaryKernel, NoTokens) { expect_correct_kernel(rotary_case(0, 4, rope(100, 4))); }

TEST(RotaryFrequencies, DefaultIsAGeometricSeries) {
  // theta^(-2 i / dims): 1, 100^(-1/2) = 0.1.
  const std::vector<double> frequencies = rotary_frequencies(rope(100, 4));
  ASSERT_EQ(frequencies.size(), 2u);
  EXPECT_DOUBLE_EQ(frequencies[0], 1);
  EXPECT_DOUBLE_EQ(frequencies[1], 0.1);
}

TEST(RotaryFrequencies, LinearScalingDividesAll) {
  const std::vector<double> frequencies = rotary_frequencies(rope(100, 4, "linear", {4}));
  EXPECT_DOUBLE_EQ(frequencies[0], 0.25);
  EXPECT_DOUBLE_EQ(frequencies[1], 0.025);
}

TEST(RotaryFrequencies, Llama3DividesOnlyLongWavelengths) {
  // theta = (2 pi)^4, 8 dims: frequencies 1, (2 pi)^-1, (2 pi)^-2, (2 pi)^-3: wavelengths 2
  // pi, (2 pi)^2 = 39.5, 248, 1558. Original positions 400, low 1, high 4: kept below 100, divided
  // by 8 above 400, blended between: smooth = (400 / 248.05 - 1) / 3.
  const double turn = 2 * std::numbers::pi;
  const std::vector<double> frequencies =
      rotary_frequencies(rope(std::pow(turn, 4), 8, "llama3", {8, 1, 4, 400}));
  const double smooth = (400 / std::pow(turn, 3) - 1) / 3;
  ASSERT_EQ(frequencies.size(), 4u);
  EXPECT_DOUBLE_EQ(frequencies[0], 1);
  EXPECT_NEAR(frequencies[1], 1 / turn, 1e-15);
  EXPECT_NEAR(frequencies[2], (smooth + (1 - smooth) / 8) * std::pow(turn, -2), 1e-15);
  EXPECT_NEAR(frequencies[3], std::pow(turn, -3) / 8, 1e-15);
}

TEST(RotaryFrequencies, UnknownTypeIsRefusedByName) {
  try {
    rotary_frequencies(rope(100, 4, "yarn"));
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("yarn"), std::string::npos);
  }
}

}  // namespace
}  // namespace shardwise::testing
