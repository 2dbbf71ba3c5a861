#include "io/calculon_system.h"

#include <gmock/gmock.h>

#include "io/cluster_file.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;

constexpr const char* kSystem = R"({
 "matrix": {"float16": {"tflops": 100, "gflops_efficiency": [[8, 0.8], [0, 0.4]]}},
 "vector": {"float16": {"tflops": 10, "gflops_efficiency": [[0, 0.5]]}},
 "mem1": {"GiB": 16, "GBps": 1000, "MB_efficiency": [[10, 1.0], [0, 0.5]]},
 "mem2": {"GiB": 1, "GBps": 1, "MB_efficiency": [[0, 1.0]]},
 "processing_mode": "no_overlap",
 "networks": [
  {"bandwidth": 100, "efficiency": 0.5, "size": 4, "latency": 1e-5, "must_be_filled": true,
   "processor_usage": 0.1, "ops": {"p2p": [1.0, null], "reduce_scatter": [1.0, -1],
   "all_gather": [1.5, -1], "all_reduce": [2.0, -1]}},
  {"bandwidth": 10, "efficiency": 1.0, "size": 64, "latency": 0, "must_be_filled": false,
   "processor_usage": 0, "ops": {"p2p": [1.0, null], "reduce_scatter": [1.0, 0],
   "all_gather": [1.0, 0], "all_reduce": [1.0, 0]}}]})";

CalculonSystem system_of(const std::string& text) {
  return calculon_system_from_json(parse_json(text, "system.json"), "small");
}

std::string error_of(const std::string& from, const std::string& to) {
  std::string text = kSystem;
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  try {
    system_of(text.replace(at, from.size(), to));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

std::string cluster_error(int devices) {
  try {
    system_of(kSystem).cluster(devices);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(CalculonSystem, EfficiencyIsThatOfTheLargestSizeReached) {
  const CalculonSystem system = system_of(kSystem);
  EXPECT_DOUBLE_EQ(system.matrix.time(8e9), 8e9 / 80e12);
  EXPECT_DOUBLE_EQ(system.matrix.time(7e9), 7e9 / 40e12);
  EXPECT_DOUBLE_EQ(system.memory.time(5e6), 5e6 / 500e9);
  EXPECT_DOUBLE_EQ(system.matrix.time(0), 0);
}

TEST(CalculonSystem, CollectivesScaleByKindAndRanks) {
  const CalculonSystem system = system_of(kSystem);
  const Cluster cluster = system.cluster(4);
  const CalculonTable table(system, cluster);
  const GroupPlacement four{4, 0, 4, 1, 0};
  // 50 GB/s; all-reduce of 1e9 bytes hands in 2e9: 2e9 (1 - 1/4). Gather: 1.5e9 (1 - 1/4).
  EXPECT_NEAR(table
                  .collective_time(
                      CollectiveKind::kAllReduce, Bytes(2'000'000'000), Precision::kBFloat16, four)
                  .time.count,
              0.03001,
              1e-9);
  EXPECT_NEAR(table
                  .collective_time(
                      CollectiveKind::kAllGather, Bytes(1'000'000'000), Precision::kBFloat16, four)
                  .time.count,
              0.02251,
              1e-9);
}

TEST(CalculonSystem, NetworksBecomeLevels) {
  const Cluster cluster = system_of(kSystem).cluster(16);
  ASSERT_EQ(cluster.levels.size(), 2U);
  EXPECT_EQ(cluster.levels[0].size, 4);
  EXPECT_EQ(cluster.levels[1].size, 4);
  EXPECT_EQ(cluster.num_devices(), 16);
  EXPECT_EQ(cluster.types[0].memory.count, std::int64_t{16} << 30);
  EXPECT_EQ(system_of(kSystem).cluster(1).levels.size(), 1U);
  EXPECT_THAT(cluster_error(6), HasSubstr("no whole number of networks of 4"));
  EXPECT_THAT(cluster_error(128), HasSubstr("join at most 64"));
}

TEST(CalculonSystem, BadFilesAreRefusedByKey) {
  EXPECT_THAT(error_of("\"tflops\": 100", "\"tflops\": -1"),
              HasSubstr("system.json:2: key 'matrix.float16.tflops'"));
  EXPECT_THAT(error_of("[0, 0.4]", "[0, 1.4]"), HasSubstr("gflops_efficiency[1][1]"));
  EXPECT_THAT(error_of("[0, 0.4]", "[9, 0.4]"), HasSubstr("list the largest size first"));
  EXPECT_THAT(error_of("[0, 0.4]", "[1, 0.4]"), HasSubstr("a last row of size 0"));
  EXPECT_THAT(error_of("no_overlap", "overlap"), HasSubstr("\"no_overlap\" or \"roofline\""));
  EXPECT_THAT(error_of("\"size\": 64", "\"size\": 4"), HasSubstr("more devices than the network"));
  EXPECT_THAT(error_of("\"mem2\"", "\"mem3\""), HasSubstr("mem3"));
  EXPECT_THAT(error_of("[2.0, -1]", "[2.0, -2]"), HasSubstr("all_reduce[1]"));
}

TEST(CalculonSystem, AFileWithoutDevicesSaysWhatIsMissing) {
  try {
    parse_profile(kSystem, "system.json");
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("needs its number of devices"));
  }
}

}  // namespace
}  // namespace shardwise
