#include "report/progress_line.h"

#include <gtest/gtest.h>

#include <string>

namespace shardwise {
namespace {

using std::chrono::milliseconds;

// Standard error of a test is no terminal.
std::string said_during(milliseconds time) {
  ::testing::internal::CaptureStderr();
  const int result = while_showing([] { return std::string("half done"); },
                                   [&] {
                                     std::this_thread::sleep_for(time);
                                     return 7;
                                   });
  EXPECT_EQ(result, 7);
  return ::testing::internal::GetCapturedStderr();
}

TEST(ProgressLine, LeavesShortWorkAlone) { EXPECT_EQ(said_during(milliseconds(300)), ""); }

TEST(ProgressLine, SaysWhereLongWorkIs) { EXPECT_EQ(said_during(milliseconds(3000)), "half done\n"); }

}  // namespace
}  // namespace shardwise
