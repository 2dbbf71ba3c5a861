#include "runtime/initial_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace shardwise {
namespace {

using ::testing::Each;

const InitialValues kMatrix = {7, "layer.0.mlp.weight", Initializer::kNormal, 0.5, {6, 5}};

std::vector<float> fill(const InitialValues& what,
                        const Box& box,
                        const std::vector<std::int64_t>& shape) {
  std::vector<float> values(static_cast<std::size_t>(element_count(shape)), -1.0f);
  fill_initial_values(what, box, shape, values.data());
  return values;
}

TEST(InitialValues, APartEqualsTheSamePlaceOfTheWhole) {
  const std::vector<float> whole = fill(kMatrix, {{0, 0}, {6, 5}}, {6, 5});
  const std::vector<float> part = fill(kMatrix, {{3, 2}, {6, 5}}, {3, 3});
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      EXPECT_EQ(part[i * 3 + j], whole[(i + 3) * 5 + j + 2]);
    }
  }
}

TEST(InitialValues, PaddingIsZero) {
  // Rows 4 and 5 of 6 in a shard of 4 rows.
  const std::vector<float> part = fill(kMatrix, {{4, 0}, {6, 5}}, {4, 5});
  for (std::size_t i = 10; i < 20; ++i) {
    EXPECT_EQ(part[i], 0.0f);
  }
  EXPECT_NE(part[9], 0.0f);
}

TEST(InitialValues, NameAndSeedChangeThem) {
  InitialValues other_name = kMatrix;
  other_name.name = "layer.1.mlp.weight";
  InitialValues other_seed = kMatrix;
  other_seed.seed = 8;
  const Box box = {{0, 0}, {6, 5}};
  EXPECT_NE(fill(kMatrix, box, {6, 5}), fill(other_name, box, {6, 5}));
  EXPECT_NE(fill(kMatrix, box, {6, 5}), fill(other_seed, box, {6, 5}));
}

TEST(InitialValues, NormalValuesHaveTheAskedDeviation) {
  const InitialValues what = {1, "w", Initializer::kNormal, 0.5, {40'000}};
  const std::vector<float> values = fill(what, {{0}, {40'000}}, {40'000});
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += value * value;
  }
  // Standard errors: mean 0.5 / sqrt(40000) = 0.0025, deviation 0.5 / sqrt(80000) = 0.0018.
  EXPECT_NEAR(sum / 40'000, 0, 4 * 0.0025);
  EXPECT_NEAR(std::sqrt(squares / 40'000), 0.5, 4 * 0.0018);
}

TEST(InitialValues, OnesAndZeros) {
  const InitialValues ones = {1, "norm.weight", Initializer::kOnes, 0, {4}};
  EXPECT_THAT(fill(ones, {{0}, {4}}, {4}), Each(1.0f));
  const InitialValues zeros = {1, "norm.bias", Initializer::kZeros, 0, {4}};
  EXPECT_THAT(fill(zeros, {{0}, {4}}, {4}), Each(0.0f));
}

}  // namespace
}  // namespace shardwise
