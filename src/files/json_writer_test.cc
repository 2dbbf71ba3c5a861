#include "files/json_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "files/json.h"

namespace shardwise {
namespace {

using Json = nlohmann::ordered_json;

TEST(JsonWriter, ShortContainersStayOnOneLine) {
  const Json value = {{"z", {1, 2, 3}}, {"a", {{"k", "v"}}}, {"e", Json::array()}};
  EXPECT_EQ(to_json_text(value), "{\"z\": [1, 2, 3], \"a\": {\"k\": \"v\"}, \"e\": []}\n");
}

TEST(JsonWriter, LongContainersAreIndented) {
  const std::string word(60, 'x');
  const Json value = {{"b", {word, word}}, {"a", 1}};
  EXPECT_EQ(to_json_text(value),
            "{\n  \"b\": [\n    \"" + word + "\",\n    \"" + word + "\"\n  ],\n  \"a\": 1\n}\n");
}

TEST(JsonWriter, DoublesReadBackExactly) {
  std::mt19937_64 random(1);
  Json values = Json::array();
  std::vector<double> numbers = {0.1, 1.0 / 3.0, 5e-324, 1.7976931348623157e308, -0.0, 1e22};
  for (int i = 0; i < 1000; ++i) {
    const auto number = std::bit_cast<double>(random());
    if (std::isfinite(number)) {
      numbers.push_back(number);
    }
  }
  values = numbers;
  const JsonValue read = parse_json(to_json_text(values), "numbers");
  const std::vector<JsonValue> items = read.items();
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(items[i].as_double(), numbers[i]) << i;
  }
}

TEST(JsonWriter, BadUtf8IsReplaced) {
  EXPECT_EQ(to_json_text(Json("a\xff")), "\"a\xef\xbf\xbd\"\n");
}

TEST(JsonWriterDeathTest, InfinityIsABug) {
  EXPECT_EXIT(to_json_text(Json(INFINITY)), ::testing::ExitedWithCode(70), "JSON cannot hold");
}

}  // namespace
}  // namespace shardwise
