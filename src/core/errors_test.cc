#include "core/errors.h"

#include <gtest/gtest.h>

namespace shardwise {
namespace {

TEST(InputError, MessageStartsWithThePlace) {
  EXPECT_STREQ(InputError("plan.json:3", "expected an object").what(),
               "plan.json:3: expected an object");
}

TEST(InputError, WithoutAPlaceThereIsNoColon) {
  EXPECT_STREQ(InputError("", "no such file").what(), "no such file");
}

TEST(Check, HoldsSilently) { SHARDWISE_CHECK(1 + 1 == 2, "arithmetic"); }

TEST(Check, EvaluatesItsMessageOnlyOnFailure) {
  int evaluations = 0;
  const auto message = [&] {
    ++evaluations;
    return "never shown";
  };
  SHARDWISE_CHECK(evaluations == 0, message());
  EXPECT_EQ(evaluations, 0);
}

TEST(CheckDeathTest, FailureNamesTheInvariantAndExitsWith70) {
  const int stages = 0;
  EXPECT_EXIT(SHARDWISE_CHECK(stages >= 1, "empty pipeline"),
              testing::ExitedWithCode(70),
              "errors_test.cc:[0-9]+: bug in shardwise: empty pipeline\n.*stages >= 1");
}

}  // namespace
}  // namespace shardwise
