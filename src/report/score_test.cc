#include "report/score.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/errors.h"

namespace shardwise {
namespace {

const std::string kHeader =
    "source,model,params_b,layers,hidden,heads,kv_heads,ffn,vocab,seq_len,gpu,n_gpus,gpus_per_node,"
    "dp,tp,pp,cp,ep,micro_batch,global_batch,recompute,schedule,zero,achieved_tflops_per_gpu,"
    "iter_time_s,mfu,note\n";

// A 1.3B model on eight A100 with the given GPU, data degree and time.
std::string row(const std::string& gpu, int data, const std::string& time) {
  return "ours,GPT,1.3,24,2048,16,,8192,51200,2048," + gpu + ",8,8," + std::to_string(data) +
         ",1,1,1,1,1,64,none,none,1,," + time + ",,bf16\n";
}

std::string refusal_of(const std::string& text) {
  const std::vector<PublishedRow> rows = parse_published_rows(kHeader + text, "runs.csv");
  return read_published_run(rows.at(0), "runs.csv").refusal;
}

std::string error_of(const std::string& text) {
  try {
    const std::vector<PublishedRow> rows = parse_published_rows(kHeader + text, "runs.csv");
    (void)read_published_run(rows.at(0), "runs.csv");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(PublishedRow, CompleteRowIsPredicted) { EXPECT_EQ(refusal_of(row("A100-80GB", 8, "3")), ""); }

TEST(PublishedRow, LayoutMustUseAllGpus) {
  EXPECT_EQ(refusal_of(row("A100-80GB", 4, "3")),
            "layout: dp 4 x tp 1 x pp 1 x cp 1 is not 8 GPUs");
}

TEST(PublishedRow, UnknownGpuNamesTheNearest) {
  const std::string refusal = refusal_of(row("a100-sxm-80gc", 8, "3"));
  EXPECT_NE(refusal.find("did you mean 'a100-sxm-80gb'"), std::string::npos) << refusal;
}

TEST(PublishedRow, BlankColumnsAreNamed) {
  EXPECT_EQ(refusal_of(row("A100-80GB", 8, "")), "blank: iter_time_s");
}

TEST(PublishedRow, TimesThatNoRunHasAreErrors) {
  for (const char* time : {"nan", "-3", "0", "inf", "3 s"}) {
    const std::string error = error_of(row("A100-80GB", 8, time));
    EXPECT_NE(error.find("runs.csv:2: column 'iter_time_s'"), std::string::npos) << time << error;
  }
}

TEST(PublishedRow, FieldsMayBeQuotedAndMustBeComplete) {
  const std::vector<PublishedRow> rows =
      parse_published_rows(kHeader + row("A100", 8, "\"3\""), "runs.csv");
  EXPECT_EQ(rows.at(0).at("iter_time_s"), "3");
  EXPECT_THROW(parse_published_rows(kHeader + "a,b\n", "runs.csv"), InputError);
  EXPECT_THROW(parse_published_rows("a,b\n", "runs.csv"), InputError);
}

TEST(RankCorrelation, KnowsOrderReverseAndTies) {
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3}, {10, 20, 40}), 1);
  EXPECT_DOUBLE_EQ(rank_correlation({1, 2, 3}, {3, 2, 1}), -1);
  EXPECT_DOUBLE_EQ(rank_correlation({1, 1, 1}, {3, 2, 1}), 0);
}

TEST(Score, OneConstantIsFittedWithoutTheRow) {
  // Three equal layouts, measured 2, 4 and 6 s: the others' median corrects each, whatever the
  // model says. The upper of two medians is taken: 6, 6 and 4.
  const std::vector<PublishedRow> rows = parse_published_rows(
      kHeader + row("A100", 8, "2") + row("A100", 8, "4") + row("A100", 8, "6"), "runs.csv");
  const Scores scores = score_published_rows(rows, "runs.csv", Refit::kNone);
  ASSERT_EQ(scores.rows.size(), 3U);
  EXPECT_NEAR(scores.rows[0].calibrated, 6, 1e-9);
  EXPECT_NEAR(scores.rows[1].calibrated, 6, 1e-9);
  EXPECT_NEAR(scores.rows[2].calibrated, 4, 1e-9);
}

TEST(Score, PublishedRunsStayWithinTheirBounds) {
  const char* data = std::getenv("SHARDWISE_DATA");
  const std::string path =
      std::string(data != nullptr ? data : "../shared/data") + "/published_throughput.csv";
  std::ifstream file(path);
  if (!file) {
    GTEST_SKIP() << "no " << path << "; set SHARDWISE_DATA";
  }
  std::stringstream text;
  text << file.rdbuf();
  const std::vector<PublishedRow> rows = parse_published_rows(text.str(), path);
  const Scores scores = score_published_rows(rows, path, Refit::kNone);
  const auto error = [&](RowClass row_class) {
    return mean_error(scores, &ScoredRow::shipped, [&](const ScoredRow& scored) {
      return scored.run.row_class == row_class;
    });
  };
  EXPECT_GE(static_cast<int>(scores.rows.size()), 98 * scores.with_time / 100);
  EXPECT_LE(error(RowClass::kDenseHalf), 0.08);
  EXPECT_LE(error(RowClass::kDenseSmallFormat), 0.13);
}

}  // namespace
}  // namespace shardwise
