#include "profile/samples.h"

#include <gtest/gtest.h>

namespace shardwise {
namespace {

TEST(Summarize, OneLateSampleDoesNotMoveTheMean) {
  // Sorted 1 2 3 4 100: mean of the first four 2.5, quartiles 2 and 4, half the range over the
  // median 1 / 3.
  const SampleSummary summary = summarize({4, 1, 100, 2, 3}, kCountedOfWork);
  EXPECT_EQ(summary.time, Seconds(2.5));
  EXPECT_DOUBLE_EQ(summary.spread, 1.0 / 3);
}

TEST(SizeLadder, DoublesBetweenOneAndEight) {
  EXPECT_EQ(size_ladder(1, 8, 4, 1), (std::vector<std::int64_t>{1, 2, 4, 8}));
}

TEST(SizeLadder, OneSizeIsMeasuredOnce) {
  EXPECT_EQ(size_ladder(5, 5, 4, 4), (std::vector<std::int64_t>{8}));
}

}  // namespace
}  // namespace shardwise
