#include "runtime/learning_rate.h"

#include <gtest/gtest.h>

namespace shardwise {
namespace {

const LearningRateSchedule kSchedule = {
    .peak = 1.0, .floor = 0.2, .warmup_steps = 4, .total_steps = 12};

TEST(LearningRate, RisesLinearlyToThePeak) {
  EXPECT_DOUBLE_EQ(learning_rate_at(kSchedule, 1), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate_at(kSchedule, 4), 1.0);
}

TEST(LearningRate, FallsAlongACosine) {
  // Half way, at step 4 + 8 / 2, the cosine is 0: the mean of peak and floor.
  EXPECT_DOUBLE_EQ(learning_rate_at(kSchedule, 8), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate_at(kSchedule, 12), 0.2);
}

TEST(LearningRate, StaysAtTheFloor) { EXPECT_DOUBLE_EQ(learning_rate_at(kSchedule, 100), 0.2); }

TEST(LearningRate, IsConstantWithoutATotal) {
  EXPECT_DOUBLE_EQ(learning_rate_at({.peak = 0.5, .floor = 0.1}, 1), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at({.peak = 0.5, .floor = 0.1, .warmup_steps = 2}, 9), 0.5);
}

}  // namespace
}  // namespace shardwise
