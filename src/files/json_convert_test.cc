#include "files/json_convert.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace shardwise {
namespace {

TEST(ToOrderedJson, KeepsKindsAndTheOrderOfKeys) {
  const std::string text = R"({"b":[1,1.0,-2e-05],"a":{"x":null,"y":true},"c":"é\n"})";
  EXPECT_EQ(to_ordered_json(parse_json(text, "x.json")).dump(), text);
}

TEST(ToOrderedJson, DoublesSurviveBitByBit) {
  const double value = to_ordered_json(parse_json("0.041666666666666664", "x.json")).get<double>();
  EXPECT_EQ(value, 0.041666666666666664);
}

}  // namespace
}  // namespace shardwise
