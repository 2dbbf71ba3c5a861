// The vector loops against the same functions in double precision.
#include "runtime/activation_loops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace shardwise {
namespace {

// -100 to 100, dense around zero, an odd number of them so that no vector length divides it.
std::vector<float> arguments() {
  std::vector<float> x{0.0f, -0.0f, 1e-30f, -1e-30f, 100.0f, -100.0f, 60.0f, -60.0f, 88.5f, -88.5f};
  for (int i = 0; i <= 2002; ++i) {
    x.push_back(static_cast<float>(i - 1001) * 0.0123f);
  }
  return x;
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

double exact_gelu(double x) {
  return x * logistic(2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x));
}

double exact_silu(double x) { return x * logistic(x); }

// Central difference of the exact function.
double slope(double (*function)(double), double x) {
  constexpr double kStep = 1e-5;
  return (function(x + kStep) - function(x - kStep)) / (2 * kStep);
}

void expect_near(float found, double expected, float x) {
  EXPECT_NEAR(found, expected, std::max(1e-7, 2e-6 * std::abs(expected))) << "at " << x;
}

TEST(ActivationLoops, GeluIsExactToSixDigits) {
  const std::vector<float> x = arguments();
  const std::vector<float> ones(x.size(), 1.0f);
  std::vector<float> y(x.size());
  std::vector<float> dx(x.size());
  const auto count = static_cast<std::int64_t>(x.size());
  gelu_tanh(x.data(), y.data(), count);
  gelu_tanh_backward(ones.data(), x.data(), dx.data(), count);
  for (std::size_t i = 0; i < x.size(); ++i) {
    expect_near(y[i], exact_gelu(x[i]), x[i]);
    expect_near(dx[i], slope(exact_gelu, x[i]), x[i]);
  }
}

TEST(ActivationLoops, SiluIsExactToSixDigits) {
  const std::vector<float> x = arguments();
  const std::vector<float> ones(x.size(), 1.0f);
  const std::vector<float> threes(x.size(), 3.0f);
  std::vector<float> y(x.size());
  std::vector<float> gated(x.size());
  std::vector<float> dx(x.size());
  std::vector<float> dgate(x.size());
  std::vector<float> dup(x.size());
  const auto count = static_cast<std::int64_t>(x.size());
  silu(x.data(), y.data(), count);
  silu_backward(ones.data(), x.data(), dx.data(), count);
  silu_gate(x.data(), threes.data(), gated.data(), count);
  silu_gate_backward(ones.data(), x.data(), threes.data(), dgate.data(), dup.data(), count);
  for (std::size_t i = 0; i < x.size(); ++i) {
    expect_near(y[i], exact_silu(x[i]), x[i]);
    expect_near(gated[i], 3 * exact_silu(x[i]), x[i]);
    expect_near(dx[i], slope(exact_silu, x[i]), x[i]);
    expect_near(dgate[i] / 3, slope(exact_silu, x[i]), x[i]);
    expect_near(dup[i], exact_silu(x[i]), x[i]);
  }
}

TEST(ActivationLoops, ResultsDoNotDependOnThePosition) {
  // Vector body, its remainder and a single element must agree bit for bit, or a sharded run would
  // differ from a whole one.
  const std::vector<float> x = arguments();
  const std::vector<float> ones(x.size(), 1.0f);
  std::vector<float> together(x.size());
  std::vector<float> backward_together(x.size());
  const auto count = static_cast<std::int64_t>(x.size());
  gelu_tanh(x.data(), together.data(), count);
  silu_backward(ones.data(), x.data(), backward_together.data(), count);
  for (std::size_t i = 0; i < x.size(); ++i) {
    float alone = 0;
    gelu_tanh(&x[i], &alone, 1);
    EXPECT_EQ(alone, together[i]) << "at " << x[i];
    silu_backward(&ones[i], &x[i], &alone, 1);
    EXPECT_EQ(alone, backward_together[i]) << "at " << x[i];
  }
}

TEST(ActivationLoops, NotANumberStaysSo) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x(33, nan);
  std::vector<float> y(33, 0.0f);
  gelu_tanh(x.data(), y.data(), 33);
  EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[32]));
  silu(x.data(), y.data(), 33);
  EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[32]));
}

TEST(ActivationLoops, MayWorkInPlace) {
  const std::vector<float> x = arguments();
  std::vector<float> apart(x.size());
  std::vector<float> in_place = x;
  const auto count = static_cast<std::int64_t>(x.size());
  gelu_tanh(x.data(), apart.data(), count);
  gelu_tanh(in_place.data(), in_place.data(), count);
  EXPECT_EQ(in_place, apart);
}

}  // namespace
}  // namespace shardwise
