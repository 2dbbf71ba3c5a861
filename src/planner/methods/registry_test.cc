#include "planner/methods/registry.h"

#include <gmock/gmock.h>

#include "core/errors.h"

namespace shardwise {
namespace {

TEST(Registry, UnknownMethodsNameTheKnownOnes) {
  try {
    planning_method("gurobi");
    FAIL() << "an unknown method was found";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("shardwise, megatron, uniap"));
  }
}

TEST(Registry, OursIsTheDefault) { EXPECT_EQ(planning_methods().front().name, "shardwise"); }

}  // namespace
}  // namespace shardwise
