#include "io/layer_profile.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

namespace shardwise {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string message_of(const std::string& text) {
  try {
    sailor_profile_from_json(parse_json(text, "layers.json"));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(LayerProfile, NegativeTimesNameFileAndKey) {
  EXPECT_THAT(message_of(R"({"1": {"2": {"0": [0.5, -0.25, 0]}}})"),
              HasSubstr("layers.json:1: key '1.2.0[1]'"));
}

TEST(LayerProfile, TimesThatAreNoNumbersAreRefusedWithTheirLine) {
  for (const char* bad : {"NaN", "nan", "Infinity", "1e999", "\"0.5\"", "null"}) {
    const std::string message =
        message_of(fmt::format("{{\"1\": {{\"2\": {{\"0\": [0.5,\n{}, 0]}}}}}}", bad));
    EXPECT_THAT(message, HasSubstr("layers.json:2")) << bad;
  }
}

TEST(LayerProfile, MissingLayersAreNamed) {
  EXPECT_THAT(message_of(R"({"1": {"2": {"0": [0, 0, 0], "2": [0, 0, 0]}}})"),
              HasSubstr("layer 1 is missing"));
}

TEST(LayerProfile, BothFormatsOfOneMeasurementAgree) {
  const char* data = std::getenv("SHARDWISE_DATA");
  const fs::path folder = fs::path(data != nullptr ? data : "../shared/data") / "sailor";
  if (!fs::exists(folder)) {
    GTEST_SKIP() << "no Sailor profiles in " << folder << "; set SHARDWISE_DATA";
  }
  const LayerProfile sailor =
      read_sailor_profile(folder / "planner_profiles/OPT-350_V100-16_profile.json");
  LayerProfile metis;
  add_metis_profile(
      read_json_file(folder / "layer_profiles/OPT-350_V100-16_mbs1_tmp2.json"), 1, 2, metis);
  const auto& a = sailor.layers.at({1, 2});
  const auto& b = metis.layers.at({1, 2});
  ASSERT_GT(a.size(), 5U);
  ASSERT_GT(b.size(), 5U);
  // The figure that the data's README checked: 13.734 ms.
  EXPECT_NEAR(a[5].forward_backward.count, 13.734e-3, 1e-6);
  EXPECT_NEAR(b[5].forward_backward.count, 13.734e-3, 1e-6);
  EXPECT_GT(b[5].memory->count, 0);
}

TEST(LayerProfile, EveryShippedProfileIsReadOrRefusedByName) {
  const char* data = std::getenv("SHARDWISE_DATA");
  const fs::path folder = fs::path(data != nullptr ? data : "../shared/data") / "sailor";
  if (!fs::exists(folder)) {
    GTEST_SKIP() << "no Sailor profiles in " << folder << "; set SHARDWISE_DATA";
  }
  for (const auto& file : fs::directory_iterator(folder / "planner_profiles")) {
    try {
      EXPECT_FALSE(read_sailor_profile(file.path()).layers.empty()) << file.path();
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(file.path().filename().string()));
      fmt::print("refused: {}\n", error.what());
    }
  }
}

}  // namespace
}  // namespace shardwise
