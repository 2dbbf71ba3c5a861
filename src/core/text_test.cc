#include "core/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/version.h"

namespace shardwise {
namespace {

using testing::ElementsAre;

TEST(Split, KeepsEmptyParts) {
  EXPECT_THAT(split("a,,b", ','), ElementsAre("a", "", "b"));
  EXPECT_THAT(split(",", ','), ElementsAre("", ""));
  EXPECT_THAT(split("", ','), ElementsAre(""));
}

TEST(Trim, RemovesBlanksAtBothEndsOnly) {
  EXPECT_EQ(trim(" \ta b\r\n"), "a b");
  EXPECT_EQ(trim(" \n "), "");
  EXPECT_EQ(trim(""), "");
}

TEST(Join, PutsSeparatorsBetween) {
  const std::vector<std::string> parts = {"a", "b", "c"};
  EXPECT_EQ(join(parts, ", "), "a, b, c");
  EXPECT_EQ(join({}, ", "), "");
}

TEST(EditDistance, CountsEachKindOfMistakeOnce) {
  EXPECT_EQ(edit_distance("tensor", "tensor"), 0);
  EXPECT_EQ(edit_distance("tensr", "tensor"), 1);    // inserted
  EXPECT_EQ(edit_distance("tensorr", "tensor"), 1);  // removed
  EXPECT_EQ(edit_distance("tenzor", "tensor"), 1);   // replaced
  EXPECT_EQ(edit_distance("tesnor", "tensor"), 1);   // swapped
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("abc", ""), 3);
}

TEST(ClosestMatch, FindsAMisspelling) {
  const std::vector<std::string> names = {"pipeline", "tensor", "data"};
  EXPECT_EQ(closest_match("Tesnor", names), "tensor");
  EXPECT_EQ(closest_match("pipline", names), "pipeline");
}

TEST(ClosestMatch, IgnoresWhatIsTooFar) {
  const std::vector<std::string> names = {"pipeline", "tensor", "dp"};
  EXPECT_EQ(closest_match("expert", names), std::nullopt);
  EXPECT_EQ(closest_match("x", names), std::nullopt);
  EXPECT_EQ(closest_match("", names), std::nullopt);
  EXPECT_EQ(closest_match("tensor", {}), std::nullopt);
}

TEST(ClosestMatch, ShortNamesMayDifferInOneLetter) {
  const std::vector<std::string> names = {"tp", "pp"};
  EXPECT_EQ(closest_match("tq", names), "tp");
}

TEST(ClosestMatch, TiesGoToTheEarlierCandidate) {
  const std::vector<std::string> names = {"gpt2", "gpt3"};
  EXPECT_EQ(closest_match("gpt4", names), "gpt2");
}

TEST(Suggest, NamesTheMatchElseWhatIsKnown) {
  const std::vector<std::string> names = {"1f1b", "gpipe"};
  EXPECT_EQ(suggest("gpip", names), "; did you mean 'gpipe'?");
  EXPECT_EQ(suggest("zero-bubble", names), "; known: 1f1b, gpipe");
  EXPECT_EQ(suggest("x", {}), "");
}

TEST(Suggest, ListsNoMoreThanTen) {
  const std::vector<std::string> names(12, "abcdef");
  EXPECT_THAT(suggest("x", names), testing::EndsWith("abcdef, ..."));
}

TEST(Version, IsThreeNumbers) {
  EXPECT_THAT(std::string(version()), testing::MatchesRegex("[0-9]+.[0-9]+.[0-9]+"));
}

}  // namespace
}  // namespace shardwise
