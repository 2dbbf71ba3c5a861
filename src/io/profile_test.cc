// Profile files: a cluster and its measured table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "files/json_writer.h"
#include "files/read_file.h"
#include "files/temporary_folder.h"
#include "io/cluster_file.h"
#include "io/cluster_json.h"
#include "io/cluster_preset.h"
#include "io/table_json.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// One row of each sort, with times that have no short decimal form.
MeasuredTable example_table() {
  MeasuredTable table;
  table.machine = "a \"machine\", 2 cores";
  table.date = "2026-11-22";
  table.versions = {{"torch", "2.13.0"}, {"shardwise", "0.1.0"}};
  table.process_memory = Bytes(123456789);
  table.overlap_fraction = {1.0 / 3};
  table.ops = {{{OpKind::kLinear, "bias", {512, 64, 128}, Precision::kBFloat16},
                Direction::kBackwardWeight,
                0,
                Seconds(1e-4 / 3),
                0.02}};
  table.collectives = {{CollectiveKind::kAllToAll,
                        Precision::kFloat32,
                        {2, 0, 2, 1, 0},
                        Bytes(4096),
                        Seconds(2e-5 / 7),
                        0.1}};
  table.transfers = {{0, 1, Bytes(65536), Seconds(3e-5 / 7), 0}};
  table.optimizer = {{1000, Precision::kFloat32, 0, Seconds(1e-6 / 7), 0}};
  table.accumulate = {{Bytes(4000), 0, Seconds(1e-6 / 3), 0}};
  table.step_overhead = {{2, Seconds(1e-3 / 3)}};
  return table;
}

std::string example_text() {
  const TemporaryFolder folder;
  write_profile(folder.path() / "profile.json", local_cluster(2), example_table());
  return read_file(folder.path() / "profile.json");
}

std::string refusal(const std::string& from, const std::string& to) {
  std::string text = example_text();
  const std::size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from << " is not in\n" << text;
  text.replace(place, from.size(), to);
  try {
    parse_profile(text, "profile.json");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Profile, RoundTripIsExact) {
  const LoadedCluster read = parse_profile(example_text(), "profile.json");
  EXPECT_EQ(read.table, example_table());
  EXPECT_EQ(to_json_text(cluster_to_json(read.cluster)),
            to_json_text(cluster_to_json(local_cluster(2))));
}

TEST(Profile, TableAnswersWithItsRows) {
  const LoadedCluster read = parse_profile(example_text(), "profile.json");
  EXPECT_EQ(read.costs->accumulate_time(Bytes(4000), 0).time, Seconds(1e-6 / 3));
  EXPECT_THAT(read.costs->provenance(), AllOf(HasSubstr("2026-11-22"), HasSubstr("torch 2.13.0")));
}

TEST(Profile, OtherDocumentsAreRefused) {
  EXPECT_THAT(refusal("shardwise-profile", "shardwise-plan"),
              AllOf(StartsWith("profile.json:2: key 'format'"), HasSubstr("profile")));
  EXPECT_THAT(refusal("\"version\": 1", "\"version\": 99"), HasSubstr("key 'version'"));
  EXPECT_THROW(parse_profile("", "profile.json"), InputError);
  EXPECT_THROW(parse_profile("{}", "profile.json"), InputError);
}

TEST(Profile, RowsAreChecked) {
  EXPECT_THAT(refusal("\"op\": \"linear\"", "\"op\": \"lineal\""),
              AllOf(StartsWith("profile.json:"), HasSubstr("table.ops[0].op")));
  EXPECT_THAT(refusal("[512, 64, 128]", "[]"), HasSubstr("at least one size"));
  EXPECT_THAT(refusal("[512, 64, 128]", "[0, 64, 128]"), HasSubstr("table.ops[0].sizes[0]"));
  EXPECT_THAT(refusal("backward-weight", "sideways"), HasSubstr("table.ops[0].direction"));
  EXPECT_THAT(refusal("\"size_bytes\": 65536", "\"size_bytes\": 0"),
              HasSubstr("table.transfers[0].size_bytes"));
  EXPECT_THAT(refusal("\"elements\": 1000", "\"elements\": 1000, \"speed\": 1"),
              HasSubstr("'speed'"));
  EXPECT_THAT(refusal("\"ranks\": 2, \"time_s\"", "\"ranks\": 2, \"time\""), HasSubstr("time"));
  EXPECT_THAT(refusal("\"overlap_fraction\": [0", "\"overlap_fraction\": [1"),
              HasSubstr("overlap_fraction[0]"));
}

TEST(Profile, BandwidthsMustBePositive) {
  EXPECT_THAT(refusal("\"bytes_per_s\": ", "\"bytes_per_s\": 0.0, \"latency_s\": 0}, {\"x\": "),
              HasSubstr("bytes_per_s"));
}

TEST(Profile, TimesMustBePositive) {
  const std::string time = "\"device_type\": 0, \"time_s\": ";
  EXPECT_THAT(refusal(time, time + "-"), HasSubstr("time_s"));
  EXPECT_THAT(refusal(time, time + "0.0, \"spread\": 0}, {\"x\": "), HasSubstr("time_s"));
}

}  // namespace
}  // namespace shardwise
