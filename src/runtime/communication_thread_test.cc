#include "runtime/communication_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

namespace shardwise {
namespace {

TEST(CommunicationThread, RunsTasksInOrder) {
  CommunicationThread thread;
  std::vector<int> order;
  for (int i = 0; i < 20; ++i) {
    thread.start([&order, i] { order.push_back(i); });
  }
  thread.wait_all();
  EXPECT_EQ(order.size(), 20u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(CommunicationThread, LimitBoundsUnfinishedTasks) {
  CommunicationThread thread;
  std::atomic<int> unfinished{0};
  std::atomic<int> most{0};
  for (int i = 0; i < 10; ++i) {
    thread.start(
        [&] {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          --unfinished;
        },
        2);
    most = std::max(most.load(), ++unfinished);
  }
  thread.wait_all();
  EXPECT_LE(most, 3);  // a finished task counts until its place is given back
}

TEST(CommunicationThread, FailureReachesTheCaller) {
  CommunicationThread thread;
  thread.start([] { throw std::runtime_error("lost"); });
  EXPECT_THROW(thread.wait_all(), std::runtime_error);
  EXPECT_THROW(thread.start([] {}), std::runtime_error);
}

}  // namespace
}  // namespace shardwise
