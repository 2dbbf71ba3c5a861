#include "runtime/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

namespace shardwise {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

TEST(Watchdog, NamesRankAndActivityOfAHang) {
  Activity activity;
  std::atomic<bool> has_expired{false};
  std::string said;
  activity.set_step(7);
  activity.begin("forward", 3, 1);
  const Watchdog watchdog(activity, 2, Seconds(0.05), [&](const std::string& message) {
    said = message;
    has_expired = true;
  });
  const auto deadline = steady_clock::now() + std::chrono::seconds(5);
  while (!has_expired && steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  ASSERT_TRUE(has_expired);
  EXPECT_THAT(said, HasSubstr("rank 2: forward of layer 3, micro-batch 1, step 7"));
  EXPECT_THAT(said, HasSubstr("--timeout"));
}

TEST(Watchdog, LeavesASlowRankAlone) {
  Activity activity;
  std::atomic<bool> has_expired{false};
  {
    const Watchdog watchdog(
        activity, 0, Seconds(0.2), [&](const std::string&) { has_expired = true; });
    for (int i = 0; i < 60; ++i) {
      activity.begin("forward");
      std::this_thread::sleep_for(milliseconds(5));
    }
  }
  EXPECT_FALSE(has_expired);
}

TEST(Watchdog, StopsAtOnce) {
  const Activity activity;
  const auto start = steady_clock::now();
  {
    const Watchdog watchdog(activity, 0, Seconds(600), [](const std::string&) {});
  }
  EXPECT_LT(steady_clock::now() - start, milliseconds(500));
}

TEST(Activity, LeavesOutWhatDoesNotApply) {
  Activity activity;
  EXPECT_EQ(activity.describe(), "start");
  activity.begin("gradient norm");
  EXPECT_EQ(activity.describe(), "gradient norm");
}

}  // namespace
}  // namespace shardwise
