#include <gtest/gtest.h>

#include <algorithm>

#include "cost/evaluate.h"
#include "cost/stage_prices.h"

namespace shardwise {
namespace {

TEST(InFlight, ClosedForms) {
  // 4 stages, 8 micro-batches, first to last stage.
  const auto counts = [](Schedule schedule) {
    std::vector<int> k;
    for (int stage = 0; stage < 4; ++stage) {
      k.push_back(microbatches_in_flight(schedule, 4, stage, 8, 1));
    }
    return k;
  };
  EXPECT_EQ(counts(Schedule::kGpipe), (std::vector{8, 8, 8, 8}));
  EXPECT_EQ(counts(Schedule::k1F1B), (std::vector{4, 3, 2, 1}));
  EXPECT_EQ(counts(Schedule::k1F1BEager), (std::vector{7, 5, 3, 1}));
}

TEST(InFlight, NeverMoreThanThereAre) {
  for (const Schedule schedule : {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kInterleaved}) {
    EXPECT_LE(microbatches_in_flight(schedule, 8, 0, 2, 2), 2);
  }
}

// Walks a rank's own list: warm-up forwards, then one forward and one backward in turn, then the
// rest.
int most_in_flight_by_walking(int stages, int stage, int microbatches, int chunks) {
  const int all = microbatches * chunks;
  const int warm_up = std::min(all, (stages - stage - 1) * 2 + (chunks - 1) * stages);
  int forwards = warm_up;
  int backwards = 0;
  int most = warm_up;
  while (backwards < all) {
    forwards += forwards < all ? 1 : 0;
    most = std::max(most, forwards - backwards);
    ++backwards;
  }
  return most;
}

TEST(InFlight, InterleavedCountsTheOrderItself) {
  for (int stages = 1; stages <= 4; ++stages) {
    for (int chunks = 1; chunks <= 4; ++chunks) {
      for (int rounds = 1; rounds <= 4; ++rounds) {
        for (int stage = 0; stage < stages; ++stage) {
          const int m = rounds * stages;
          const int walked = most_in_flight_by_walking(stages, stage, m, chunks);
          EXPECT_EQ(microbatches_in_flight(Schedule::kInterleaved, stages, stage, m, chunks),
                    (walked + chunks - 1) / chunks);
        }
      }
    }
  }
}

TEST(InFlight, InterleavedWorstStageIsMegatronsFigure) {
  // P (1 + (P - 1) / (P v)) micro-batches, P = 4, v = 3: 4 + 1 = 5.
  EXPECT_EQ(microbatches_in_flight(Schedule::kInterleaved, 4, 0, 16, 3), 5);
}

TEST(InFlight, EarlyChunksAreHeldMoreOften) {
  // P = 4, first stage, v = 3, m = 8: 2 x 3 + 2 x 4 + 1 = 15 passes before the first backward:
  // chunk 0, 1, 2 of micro-batches 0 to 3, then chunk 0 of 4 to 6: 7, 4 and 4 of the chunks.
  const auto held = [](std::int64_t a, std::int64_t b, std::int64_t c) {
    return internal::interleaved_activations(4, 0, 8, {Bytes(a), Bytes(b), Bytes(c)});
  };
  EXPECT_EQ(held(1, 0, 0), Bytes(8));  // one pass later, before any backward of chunk 0
  EXPECT_EQ(held(0, 0, 1), Bytes(4));
  EXPECT_EQ(held(1, 1, 1), Bytes(15));
}

}  // namespace
}  // namespace shardwise
