#include "report/score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
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

// The published table with everything refitted, scored once; nothing where it is not.
struct PublishedScores {
  std::vector<PublishedRow> rows;
  std::string path;
  std::optional<Scores> scores;
};
const PublishedScores& published() {
  static const PublishedScores kPublished = [] {
    PublishedScores published;
    const char* data = std::getenv("SHARDWISE_DATA");
    published.path =
        std::string(data != nullptr ? data : "../shared/data") + "/published_throughput.csv";
    std::ifstream file(published.path);
    if (file) {
      std::stringstream text;
      text << file.rdbuf();
      published.rows = parse_published_rows(text.str(), published.path);
      published.scores = score_published_rows(published.rows, published.path, Refit::kEachSource);
    }
    return published;
  }();
  return kPublished;
}

#define SKIP_WITHOUT_DATA()                                              \
  if (!published().scores) {                                             \
    GTEST_SKIP() << "no " << published().path << "; set SHARDWISE_DATA"; \
  }

TEST(Score, PublishedRunsStayWithinTheirBounds) {
  SKIP_WITHOUT_DATA();
  const Scores& scores = *published().scores;
  const auto error = [&](RunClass run_class) {
    return mean_error(scores, &ScoredRow::left_out, [&](const ScoredRow& scored) {
      return scored.run.run_class == run_class;
    });
  };
  EXPECT_GE(static_cast<int>(scores.rows.size()), 98 * scores.with_time / 100);
  EXPECT_LE(error(RunClass::kDenseHalf), 0.08);
  EXPECT_LE(error(RunClass::kDenseSmallFormat), 0.13);
  EXPECT_LE(error(RunClass::kExperts), 0.15);
  EXPECT_LE(
      mean_error(scores,
                 &ScoredRow::calibrated,
                 [](const ScoredRow& row) { return row.run.run_class == RunClass::kDenseHalf; }),
      0.05);
  EXPECT_LE(
      std::count_if(
          scores.rows.begin(), scores.rows.end(), [](const ScoredRow& row) { return !row.fits; }),
      static_cast<int>(scores.rows.size()) / 100);
}

TEST(Score, SweepsKeepTheirOrder) {
  SKIP_WITHOUT_DATA();
  double correlation = 0;
  double regret = 0;
  const std::vector<ScoredSweep>& sweeps = published().scores->sweeps;
  ASSERT_FALSE(sweeps.empty());
  for (const ScoredSweep& sweep : sweeps) {
    correlation += sweep.rank_correlation / static_cast<double>(sweeps.size());
    regret += sweep.regret / static_cast<double>(sweeps.size());
  }
  EXPECT_GE(correlation, 0.85);
  EXPECT_LE(regret, 0.03);
}

// Of the zero-bubble paper's four schedules the best one, in each of its set-ups.
TEST(Score, TheBestScheduleOfEachSetUpIsFound) {
  SKIP_WITHOUT_DATA();
  struct Best {
    double measured = 1e300, predicted = 1e300;
    std::string by_measure, by_prediction;
    int schedules = 0;
  };
  std::map<std::string, Best> set_ups;
  for (const ScoredRow& row : published().scores->rows) {
    const PublishedRow& said = *row.run.row;
    if (!said.at("source").starts_with("zero_bubble")) {
      continue;
    }
    Best& best = set_ups[said.at("model") + " " + said.at("global_batch")];
    ++best.schedules;
    if (row.run.measured < best.measured) {
      best.measured = row.run.measured;
      best.by_measure = said.at("schedule");
    }
    if (row.left_out < best.predicted) {
      best.predicted = row.left_out;
      best.by_prediction = said.at("schedule");
    }
  }
  EXPECT_EQ(set_ups.size(), 12U);
  for (const auto& [name, best] : set_ups) {
    EXPECT_EQ(best.schedules, 4) << name;
    EXPECT_EQ(best.by_prediction, best.by_measure) << name;
  }
}

TEST(Score, MemoryThatRowsStateIsPredicted) {
  SKIP_WITHOUT_DATA();
  const MemoryError error = memory_error(*published().scores);
  EXPECT_GE(error.rows, 49);
  EXPECT_LE(error.mean, 0.10);
}

// What `plan --layout` and `evaluate` say of the same layout is the score's prediction.
TEST(Score, PredictionsAreEvaluationsOfUniformPlans) {
  SKIP_WITHOUT_DATA();
  int compared = 0;
  for (const ScoredRow& row : published().scores->rows) {
    const RunLayout& layout = row.run.layout;
    ASSERT_TRUE(plan_violations(row.run.model->plan(), row.run.model->graph()).empty())
        << "line " << row.run.row->line;
    if (layout.grid.expert > 1 || layout.repeats_every_second_layer ||
        layout.grid.schedule == Schedule::kZeroBubble1P ||
        layout.grid.schedule == Schedule::kZeroBubble2P) {
      continue;
    }
    UniformLayout grid = parse_uniform_layout(to_string(layout.grid), "row");
    const Plan& scored = row.run.model->plan();
    const int parts = scored.num_stages() * scored.num_chunks();
    for (int k = 0; k < parts; ++k) {
      const VirtualStage place = virtual_stage(scored, k);
      const auto& chunks = scored.stages[static_cast<std::size_t>(place.stage)].chunks;
      const auto layers = chunks[static_cast<std::size_t>(place.chunk)].layers.size();
      grid.layers.push_back(static_cast<int>(layers) - (k == 0 ? 1 : 0) - (k + 1 == parts ? 1 : 0));
    }
    const Graph& graph = row.run.model->graph();
    const Cluster& cluster = row.run.model->cluster();
    const Plan plan = make_uniform_plan(
        graph, grid, layout.batch, layout.sequence, Precision::kBFloat16, grid.world(), "row");
    const Evaluation evaluation =
        evaluate(plan, graph, cluster, ModelledTable(cluster, row.run.execution));
    EXPECT_EQ(to_seconds(evaluation.step_time).count, row.shipped) << "line " << row.run.row->line;
    ++compared;
  }
  EXPECT_GE(compared, 50);
}

TEST(Score, AccuracyThatPlansShowIsThatOfAFreshScore) {
  SKIP_WITHOUT_DATA();
  const std::vector<ModelAccuracy> fresh = accuracies_of(*published().scores);
  ASSERT_EQ(fresh.size(), model_accuracies().size()) << accuracy_rows_text(*published().scores);
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    const ModelAccuracy& shown = model_accuracies()[i];
    EXPECT_EQ(fresh[i].device, shown.device);
    EXPECT_EQ(fresh[i].run_class, shown.run_class);
    EXPECT_EQ(fresh[i].runs, shown.runs);
    EXPECT_NEAR(fresh[i].error, shown.error, 6e-4) << shown.device;
  }
}

}  // namespace
}  // namespace shardwise
