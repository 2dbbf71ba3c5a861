#include "files/sample_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "core/errors.h"

namespace shardwise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Permutation, VisitsEveryIndexOnce) {
  for (std::int64_t size = 1; size <= 300; ++size) {
    for (std::uint64_t key = 0; key < 5; ++key) {
      const Permutation permutation(size, key);
      std::vector<bool> seen(static_cast<std::size_t>(size));
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t image = permutation(i);
        ASSERT_TRUE(image >= 0 && image < size);
        ASSERT_FALSE(seen[static_cast<std::size_t>(image)]) << size << " " << i;
        seen[static_cast<std::size_t>(image)] = true;
      }
    }
  }
}

TEST(Permutation, LargestSizeStaysInRange) {
  const std::int64_t size = std::int64_t{1} << 62;
  const Permutation permutation(size, 7);
  std::set<std::int64_t> images;
  for (std::int64_t i = 0; i < 1000; ++i) {
    images.insert(permutation(size - 1 - i));
  }
  EXPECT_EQ(images.size(), 1000U);
  EXPECT_GE(*images.begin(), 0);
  EXPECT_LT(*images.rbegin(), size);
}

TEST(Permutation, FirstImageIsUniformOverKeys) {
  // 10,000 keys into 10 cells: 1000 each, standard deviation sqrt(1000 * 0.9) = 30. Five of them.
  std::vector<int> count(10);
  for (std::uint64_t key = 0; key < 10'000; ++key) {
    ++count[static_cast<std::size_t>(Permutation(10, key)(0))];
  }
  for (const int cell : count) {
    EXPECT_NEAR(cell, 1000, 150);
  }
}

TEST(Permutation, NeighboursAreUncorrelated) {
  // For a random order of n numbers the correlation of neighbours has deviation 1 / sqrt(n).
  constexpr std::int64_t kSize = 100'000;
  const Permutation permutation(kSize, 3);
  const double mean = (kSize - 1) / 2.0;
  double product = 0;
  for (std::int64_t i = 0; i + 1 < kSize; ++i) {
    product += (static_cast<double>(permutation(i)) - mean) *
               (static_cast<double>(permutation(i + 1)) - mean);
  }
  const double variance = (static_cast<double>(kSize) * kSize - 1) / 12.0;
  EXPECT_NEAR(product / kSize / variance, 0.0, 5 / std::sqrt(kSize));
}

TEST(SampleOrder, EachEpochVisitsEveryWindowOnceInAnotherOrder) {
  // 41 tokens, windows of 4: 10 windows; a batch of 3 crosses the epochs' borders.
  const SampleOrder order({.begin = 0, .end = 41}, 4, 3, 1, "data");
  EXPECT_EQ(order.windows_per_epoch(), 10);
  std::vector<std::vector<std::int64_t>> epochs(3);
  for (std::int64_t number = 0; number < 30; ++number) {
    const Sample sample = order.sample(number / 3, number % 3);
    EXPECT_EQ(sample.epoch, number / 10);
    EXPECT_EQ(sample.begin, sample.window * 4);
    epochs[static_cast<std::size_t>(sample.epoch)].push_back(sample.window);
  }
  for (const auto& epoch : epochs) {
    EXPECT_THAT(epoch, ::testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(SampleOrder, SeedsAndEpochsDoNotMirrorEachOther) {
  const TokenRange range = {.begin = 0, .end = 1'000'001};
  const SampleOrder one(range, 10, 100'000, 1, "data");  // a step is an epoch
  const SampleOrder two(range, 10, 100'000, 2, "data");
  int equal = 0;
  for (std::int64_t position = 0; position < 1000; ++position) {
    equal += one.sample(2, position).window == two.sample(1, position).window ? 1 : 0;
  }
  EXPECT_LE(equal, 2);  // by chance 1000 / 100,000
}

TEST(SampleOrder, OrderIsTheSameForEver) {
  // A run that resumes under another version must see the same data: these never change.
  const SampleOrder order({.begin = 100, .end = 1'000'000}, 100, 4, 42, "data");
  std::vector<std::int64_t> begins;
  for (std::int64_t position = 0; position < 4; ++position) {
    begins.push_back(order.sample(1000, position).begin);
  }
  // Computed from the definition by a separate Python program.
  EXPECT_THAT(begins, ElementsAre(14200, 439600, 618600, 720800));
}

TEST(SampleOrder, WindowAndItsTargetsStayInTheRange) {
  for (std::int64_t tokens = 6; tokens <= 30; ++tokens) {
    const TokenRange range = {.begin = 7, .end = 7 + tokens};
    const SampleOrder order(range, 5, 1, 0, "data");
    for (std::int64_t step = 0; step < 40; ++step) {
      const Sample sample = order.sample(step, 0);
      EXPECT_GE(sample.begin, range.begin);
      EXPECT_LT(sample.begin + 5, range.end);  // the last target
    }
  }
}

TEST(SampleOrder, TooFewTokensAreAnError) {
  try {
    SampleOrder({.begin = 0, .end = 8}, 8, 1, 0, "data.bin");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("data.bin: expected at least 9 tokens"));
  }
}

TEST(SampleOrder, EvaluationIsTheEndOfTheData) {
  const DataSplit split = split_off_evaluation(1000, 0.1);
  EXPECT_EQ(split.train.begin, 0);
  EXPECT_EQ(split.train.end, 900);
  EXPECT_EQ(split.evaluation.begin, 900);
  EXPECT_EQ(split.evaluation.end, 1000);
  EXPECT_EQ(num_windows(split.evaluation, 33), 3);  // 100 tokens = 3 * 33 + 1
  EXPECT_EQ(num_windows(split.evaluation, 34), 2);
  EXPECT_EQ(split_off_evaluation(9, 0.0).evaluation.size(), 0);
  EXPECT_EQ(num_windows({.begin = 5, .end = 5}, 1), 0);
}

}  // namespace
}  // namespace shardwise
