#include "report/table.h"

#include <gtest/gtest.h>

namespace shardwise {
namespace {

TEST(TextTable, AlignsFirstColumnLeftAndOthersRight) {
  TextTable table({"stage", "ms"});
  table.add_row({"0", "12.5"});
  EXPECT_EQ(table.to_string(), "  stage    ms\n  0      12.5\n");
}

TEST(TextTable, RuleSpansAllColumns) {
  TextTable table({"a", "bc"});
  table.add_rule();
  EXPECT_EQ(table.to_string(0), "a  bc\n-----\n");
}

TEST(Bar, FillsItsShareAndNoMore) {
  EXPECT_EQ(bar(0.5, 4), "##..");
  EXPECT_EQ(bar(1.7, 4), "####");
  EXPECT_EQ(bar(0, 4), "....");
}

}  // namespace
}  // namespace shardwise
