#include "lower/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

namespace shardwise {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr Schedule kAll[] = {
    Schedule::kGpipe, Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kInterleaved};

std::vector<StageOrder> orders_of(Schedule schedule, const PipelineShape& shape) {
  std::vector<StageOrder> orders;
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    orders.push_back(stage_order(schedule, shape, stage));
  }
  return orders;
}

constexpr int kForwardTime = 1;
constexpr int kBackwardTime = 2;

// Time at which the last task ends when a forward of a chunk takes 1, a backward 2 and a transfer
// nothing; -1 if the orders deadlock.
int replay(const std::vector<StageOrder>& orders, const PipelineShape& shape) {
  std::map<std::tuple<bool, int, int>, int> ended;  // (forward, micro-batch, virtual stage) -> time
  std::vector<std::size_t> next(orders.size(), 0);
  std::vector<int> clock(orders.size(), 0);
  const int last = shape.num_stages * shape.num_chunks - 1;
  for (bool progress = true; progress;) {
    progress = false;
    for (int stage = 0; stage < shape.num_stages; ++stage) {
      const StageOrder& order = orders[at(stage)];
      while (next[at(stage)] < order.size()) {
        const StageTask& task = order[next[at(stage)]];
        const int k = task.chunk * shape.num_stages + stage;
        int ready = clock[at(stage)];
        if (task.is_forward ? k > 0 : true) {
          // Backward follows the next stage's backward, on the last stage its own forward.
          const auto source = task.is_forward ? std::tuple(true, task.microbatch, k - 1)
                              : k < last      ? std::tuple(false, task.microbatch, k + 1)
                                              : std::tuple(true, task.microbatch, k);
          const auto found = ended.find(source);
          if (found == ended.end()) {
            break;
          }
          ready = std::max(ready, found->second);
        }
        clock[at(stage)] = ready + (task.is_forward ? kForwardTime : kBackwardTime);
        ended[{task.is_forward, task.microbatch, k}] = clock[at(stage)];
        ++next[at(stage)];
        progress = true;
      }
    }
  }
  for (std::size_t stage = 0; stage < orders.size(); ++stage) {
    if (next[stage] < orders[stage].size()) {
      return -1;
    }
  }
  return *std::max_element(clock.begin(), clock.end());
}

TEST(Schedule, EveryPassRunsOnceAndForwardFirst) {
  for (const Schedule schedule : kAll) {
    const PipelineShape shape{4, 8, schedule == Schedule::kInterleaved ? 3 : 1};
    for (const StageOrder& order : orders_of(schedule, shape)) {
      std::map<std::pair<int, int>, int> seen;  // 1: forward done, 2: both
      for (const StageTask& task : order) {
        EXPECT_EQ((seen[{task.microbatch, task.chunk}]++), task.is_forward ? 0 : 1);
      }
      EXPECT_EQ(seen.size(), at(shape.num_microbatches * shape.num_chunks));
      EXPECT_EQ(order.size(), 2 * seen.size());
    }
  }
}

TEST(Schedule, LastTaskIsTheLastMicrobatchsBackward) {
  for (const Schedule schedule : kAll) {
    for (const StageOrder& order : orders_of(schedule, {2, 4, 1})) {
      EXPECT_EQ(order.back(), (StageTask{false, 3, 0}));
    }
  }
}

TEST(Schedule, OneForwardOneBackwardByHand) {
  // P = 3, m = 4, first stage: two forwards, then in turn.
  const auto f = [](int i) { return StageTask{true, i, 0}; };
  const auto b = [](int i) { return StageTask{false, i, 0}; };
  EXPECT_EQ(one_forward_one_backward_order({3, 4, 1}, 0),
            (StageOrder{f(0), f(1), f(2), b(0), f(3), b(1), b(2), b(3)}));
  EXPECT_EQ(one_forward_one_backward_order({3, 4, 1}, 2),
            (StageOrder{f(0), b(0), f(1), b(1), f(2), b(2), f(3), b(3)}));
}

TEST(Schedule, InterleavedOrderByHand) {
  // P = 2, m = 2, v = 2, last stage: warm-up 0 + (2 - 1) 2 = 2 chunk passes.
  EXPECT_EQ(interleaved_order({2, 2, 2}, 1),
            (StageOrder{{true, 0, 0},
                        {true, 1, 0},
                        {true, 0, 1},
                        {false, 0, 1},
                        {true, 1, 1},
                        {false, 1, 1},
                        {false, 0, 0},
                        {false, 1, 0}}));
}

TEST(Schedule, InFlightFollowsTheClosedForms) {
  for (int stages = 1; stages <= 5; ++stages) {
    for (int m = 1; m <= 9; ++m) {
      for (int stage = 0; stage < stages; ++stage) {
        const int later = stages - 1 - stage;
        const PipelineShape shape{stages, m, 1};
        EXPECT_EQ(most_in_flight(gpipe_order(shape, stage)), m);
        EXPECT_EQ(most_in_flight(one_forward_one_backward_order(shape, stage)),
                  std::min(m, later + 1));
        EXPECT_EQ(most_in_flight(eager_order(shape, stage)), std::min(m, 2 * later + 1));
      }
    }
  }
}

TEST(Schedule, InterleavedInFlightIsWarmUpPlusOne) {
  // 2 (P - 1 - stage) + (v - 1) P + 1 chunk passes, if there are as many.
  EXPECT_EQ(most_in_flight(interleaved_order({4, 8, 2}, 0)), 2 * 3 + 4 + 1);
  EXPECT_EQ(most_in_flight(interleaved_order({4, 8, 2}, 3)), 4 + 1);
  EXPECT_EQ(most_in_flight(interleaved_order({4, 4, 2}, 0)), 8);
}

TEST(Schedule, BubbleIsOnePassForEachOtherStage) {
  // Equal stages: (m + P - 1) (t_f + t_b), Narayanan et al., SC'21, section 2.2.1.
  for (const Schedule schedule : {Schedule::kGpipe, Schedule::k1F1B, Schedule::k1F1BEager}) {
    for (int stages = 1; stages <= 5; ++stages) {
      for (int m = 1; m <= 9; ++m) {
        const PipelineShape shape{stages, m, 1};
        EXPECT_EQ(replay(orders_of(schedule, shape), shape),
                  (m + stages - 1) * (kForwardTime + kBackwardTime))
            << to_string(schedule) << ", P " << stages << ", m " << m;
      }
    }
  }
}

TEST(Schedule, InterleavingDividesTheBubbleByTheChunks) {
  // m v chunk passes of each direction, and P - 1 chunk passes of bubble (section 2.2.2).
  for (int stages = 2; stages <= 4; ++stages) {
    for (int groups = 1; groups <= 3; ++groups) {
      for (int chunks = 2; chunks <= 3; ++chunks) {
        const PipelineShape shape{stages, groups * stages, chunks};
        EXPECT_EQ(replay(orders_of(Schedule::kInterleaved, shape), shape),
                  (shape.num_microbatches * chunks + stages - 1) * (kForwardTime + kBackwardTime))
            << "P " << stages << ", groups " << groups << ", v " << chunks;
      }
    }
  }
}

}  // namespace
}  // namespace shardwise
