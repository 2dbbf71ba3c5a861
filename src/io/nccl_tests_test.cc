#include "io/nccl_tests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/errors.h"
#include "files/read_file.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr const char* kRanks =
    "#  Rank  0 Group  0 Pid  15784 on  nid007106 device  0 [0009:01:00] NVIDIA GH200 120GB\n"
    "#  Rank  1 Group  0 Pid  24926 on  nid007109 device  0 [0009:01:00] NVIDIA GH200 120GB\n";
constexpr const char* kRow =
    "     1048576        262144     float     sum      -1   339.61    3.09    3.09       0   "
    "335.85 "
    "   3.12    3.12       0\n";

std::string refusal_of(const std::string& text,
                       std::optional<CollectiveKind> kind = CollectiveKind::kAllReduce) {
  try {
    parse_nccl_tests(text, "log.txt", kind);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(NcclTests, AnAllReducePaysItsSizeTwice) {
  const CollectiveBenchmark read =
      parse_nccl_tests(std::string("# Collective test starting: all_reduce_perf\n") + kRanks + kRow,
                       "log.txt",
                       std::nullopt);
  EXPECT_EQ(read.kind, CollectiveKind::kAllReduce);
  EXPECT_EQ(read.ranks, 2);
  EXPECT_EQ(read.nodes, 2);
  ASSERT_THAT(read.rows, SizeIs(1));
  EXPECT_EQ(read.rows[0].payload.count, 2 * 1048576);
  EXPECT_NEAR(read.rows[0].time.count, 339.61e-6, 1e-12);
}

TEST(NcclTests, LaunchersMayTagTheirLines) {
  std::string text;
  for (const std::string& line :
       {std::string(kRanks).substr(0, 86), std::string(kRanks).substr(87), std::string(kRow)}) {
    text += "[1,0]<stdout>:" + line + "\n";
  }
  const CollectiveBenchmark read = parse_nccl_tests(text, "log.txt", CollectiveKind::kAllGather);
  EXPECT_THAT(read.rows, SizeIs(1));
}

TEST(NcclTests, BadLogsAreRefusedWithTheirLine) {
  const std::string ranks = kRanks;
  const std::string row = kRow;
  EXPECT_THAT(refusal_of(ranks), HasSubstr("expected rows of sizes and times, found none"));
  EXPECT_THAT(refusal_of(row), HasSubstr("keep the head of the log"));
  EXPECT_THAT(refusal_of(ranks + row.substr(0, 70) + "\n"),
              AllOf(StartsWith("log.txt:3: "), HasSubstr("the line is cut off")));
  EXPECT_THAT(refusal_of(ranks + row + row),
              AllOf(StartsWith("log.txt:4: "), HasSubstr("1048576 B again")));
  EXPECT_THAT(refusal_of(ranks + row + ranks), HasSubstr("expected one table"));
  EXPECT_THAT(refusal_of(ranks.substr(ranks.find('\n') + 1) + row), HasSubstr("found 1"));
  EXPECT_THAT(refusal_of(ranks + row + "# Collective test starting: all_gather_perf\n"),
              HasSubstr("found all_gather after all-reduce"));
  EXPECT_THAT(
      refusal_of("# Collective test starting: broadcast_perf\n" + ranks + row, std::nullopt),
      HasSubstr("no such collective as \"broadcast\""));
  EXPECT_THAT(refusal_of(ranks + row, std::nullopt), HasSubstr("nothing names the collective"));
}

TEST(NcclTests, TimesThatNothingTakesAreErrors) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string row = kRow;
    return kRanks + row.replace(row.find(from), from.size(), to);
  };
  EXPECT_THAT(refusal_of(with("339.61", "nan   ")), HasSubstr("positive time"));
  EXPECT_THAT(refusal_of(with("339.61", "-39.61")), HasSubstr("positive time"));
  EXPECT_THAT(refusal_of(with("339.61", "33.961")), HasSubstr("expected a bandwidth of 30.8"));
  EXPECT_THAT(refusal_of(with("      0   335", "      7   335")), HasSubstr("no wrong results"));
}

TEST(NcclTests, ReportsInJsonSayTheSame) {
  const std::string text = R"({"version": 2, "args": ["/opt/all_reduce_perf", "-J", "o"],
    "config": {"devices": [{"rank": 0, "hostname": "a"}, {"rank": 1, "hostname": "a"}]},
    "results": [
      {"size": 1024, "out_of_place": {"time": 20.0, "nwrong": 0.0}, "in_place": {"time": 1.0}},
      {"size": 2048, "out_of_place": null, "in_place": {"time": 30.0, "nwrong": null}}]})";
  const CollectiveBenchmark read = parse_nccl_tests(text, "o.json", std::nullopt);
  EXPECT_EQ(read.nodes, 1);
  ASSERT_THAT(read.rows, SizeIs(2));
  EXPECT_NEAR(read.rows[0].time.count, 20e-6, 1e-15);
  EXPECT_NEAR(read.rows[1].time.count, 30e-6, 1e-15);
  std::string wrong = text;
  wrong.replace(wrong.find("\"nwrong\": 0.0"), 13, "\"nwrong\": 4.0");
  EXPECT_THAT(refusal_of(wrong), AllOf(StartsWith("log.txt:4: "), HasSubstr("no wrong results")));
  EXPECT_THAT(refusal_of("{\"args\": []}"), HasSubstr("config"));
}

// The real outputs of many programs' documentation.
class NcclSample : public ::testing::Test {
 protected:
  static std::string folder() {
    const char* data = std::getenv("SHARDWISE_DATA");
    return std::string(data != nullptr ? data : "../shared/data") + "/cluster_samples/";
  }
  void SetUp() override {
    if (!std::filesystem::exists(folder())) {
      GTEST_SKIP() << "no " << folder() << "; set SHARDWISE_DATA";
    }
  }
};

TEST_F(NcclSample, RanksNodesAndRowsAreThoseOfTheFile) {
  struct Expected {
    const char* file;
    int ranks, nodes;
    std::size_t rows;
  };
  for (const auto& [file, ranks, nodes, rows] :
       {Expected{"nccl_allgather_b200_1node_x2.txt", 2, 1, 8},
        {"nccl_allgather_b200_2nodes_x1.txt", 2, 2, 26},
        {"nccl_allgather_b200_2nodes_x8.txt", 16, 2, 24},
        {"nccl_allgather_h200_2nodes_x1.txt", 2, 2, 24}}) {
    const CollectiveBenchmark read = read_nccl_tests(folder() + file, CollectiveKind::kAllGather);
    EXPECT_EQ(read.ranks, ranks) << file;
    EXPECT_EQ(read.nodes, nodes) << file;
    EXPECT_EQ(read.rows.size(), rows) << file;
  }
  // Named by the text itself.
  const CollectiveBenchmark noisy =
      read_nccl_tests(folder() + "nccl_allreduce_h200_2nodes_x1_noisy_mpirun.txt", std::nullopt);
  EXPECT_EQ(noisy.kind, CollectiveKind::kAllReduce);
  EXPECT_EQ(noisy.nodes, 2);
}

TEST_F(NcclSample, ATruncatedLogSaysSo) {
  const std::string file = folder() + "nccl_allgather_b200_2nodes_x2_truncated.txt";
  EXPECT_THAT(refusal_of(read_file(file)), HasSubstr("expected rows of sizes and times"));
}

}  // namespace
}  // namespace shardwise
