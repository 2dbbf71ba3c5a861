// Galvatron's plans priced by its own formulas on its own profile, against the seconds it printed.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <limits>
#include <random>

#include "core/errors.h"
#include "cost/galvatron_costs.h"
#include "galvatron_cases.h"
#include "io/galvatron_profile.h"
#include "planner/galvatron_search.h"

namespace shardwise {
namespace {

namespace fs = std::filesystem;

class Galvatron : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("SHARDWISE_DATA");
    folder_ = fs::path(data != nullptr ? data : "../shared/data") / "galvatron";
    if (!fs::exists(folder_)) {
      GTEST_SKIP() << "no Galvatron profiles in " << folder_ << "; set SHARDWISE_DATA";
    }
  }
  fs::path folder_;
};

TEST_F(Galvatron, ItsPlansCostWhatItPredicted) {
  int plans = 0;
  for (const GalvatronCase& row : galvatron_cases_main(folder_)) {
    if (!row.its_plan) {
      continue;
    }
    const GalvatronEvaluation found = evaluate_galvatron(row.job, *row.its_plan);
    fmt::print("{}: it printed {:.4f} s, we price its plan at {:.4f} s\n",
               row.name,
               row.printed_s,
               found.step_time.count);
    EXPECT_NEAR(found.step_time.count, row.printed_s, 0.005 * row.printed_s) << row.name;
    EXPECT_TRUE(found.fits) << row.name;
    ++plans;
  }
  EXPECT_EQ(plans, 5);  // those that are written out
}

TEST_F(Galvatron, ItsOlderPlansCostWhatItPredicted) {
  for (const GalvatronCase& row : galvatron_cases_v21(folder_)) {
    if (!row.its_plan) {
      continue;
    }
    const GalvatronEvaluation found = evaluate_galvatron(row.job, *row.its_plan);
    fmt::print("{}: it printed {:.4f} s, we price its plan at {:.4f} s\n",
               row.name,
               row.printed_s,
               found.step_time.count);
    EXPECT_NEAR(found.step_time.count, row.printed_s, 0.005 * row.printed_s) << row.name;
    EXPECT_TRUE(found.fits) << row.name;
  }
}

void expect_at_least_as_fast(const std::vector<GalvatronCase>& cases) {
  EXPECT_EQ(cases.size(), 6U);
  for (const GalvatronCase& row : cases) {
    SCOPED_TRACE(row.name);
    const std::clock_t start = std::clock();
    const GalvatronResult found = find_galvatron_optimum(row.job);
    const double cpu_s = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    ASSERT_TRUE(found.plan.has_value());
    const GalvatronEvaluation judged = evaluate_galvatron(row.job, *found.plan);
    fmt::print("{}: Galvatron {:.4f} s, exact {:.4f} s ({:+.2f} %, {}), {} tasks in {:.4f} CPU s\n",
               row.name,
               row.printed_s,
               judged.step_time.count,
               100 * (row.printed_s / judged.step_time.count - 1),
               to_string(found.stop_reason),
               found.tasks,
               cpu_s);
    EXPECT_TRUE(judged.fits);
    EXPECT_EQ(judged.step_time, found.step_time);
    EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
    // The printed seconds have four decimals.
    EXPECT_LE(found.step_time.count, row.printed_s + 0.00005);
  }
}

TEST_F(Galvatron, TheExactOptimumIsAtLeastAsFast) {
  expect_at_least_as_fast(galvatron_cases_main(folder_));
}

TEST_F(Galvatron, TheExactOptimumIsAtLeastAsFastUnderTheOlderFormulas) {
  expect_at_least_as_fast(galvatron_cases_v21(folder_));
}

// Every strategy for every layer, every task and end: the definition of the optimum.
std::optional<double> brute_force(const GalvatronJob& job) {
  double best = std::numeric_limits<double>::max();
  for (const GalvatronTask& task : galvatron_tasks(job)) {
    for (const GalvatronStrategy& ends : task.ends) {
      std::vector<std::size_t> choice(static_cast<std::size_t>(job.num_layers()), 0);
      std::size_t l = 0;
      while (l < choice.size()) {
        GalvatronPlan plan{task.chunks, task.stage_layers, {}, ends, task.buffer_degree};
        for (const std::size_t k : choice) {
          plan.layers.push_back(task.layers[k]);
        }
        const GalvatronEvaluation found = evaluate_galvatron(job, plan);
        if (found.fits) {
          best = std::min(best, found.step_time.count);
        }
        for (l = 0; l < choice.size() && ++choice[l] == task.layers.size(); ++l) {
          choice[l] = 0;
        }
      }
    }
  }
  return best < std::numeric_limits<double>::max() ? std::optional(best) : std::nullopt;
}

TEST_F(Galvatron, TheExactSearchAgreesWithBruteForce) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const bool is_main = seed % 2 == 0;
    auto cases = is_main ? galvatron_cases_main(folder_) : galvatron_cases_v21(folder_);
    GalvatronJob job = cases[is_main ? 0 : 3].job;
    job.devices = 2;
    job.batch = 4;
    job.layers = {std::uniform_int_distribution<int>(2, 4)(random)};
    job.memory_gb = std::uniform_real_distribution<double>(6, 16)(random);
    const GalvatronResult found = find_galvatron_optimum(job);
    const std::optional<double> expected = brute_force(job);
    ASSERT_EQ(found.plan.has_value(), expected.has_value());
    if (expected) {
      EXPECT_NEAR(found.step_time.count, *expected, 1e-9 * *expected);
      EXPECT_LE(found.lower_bound.count, *expected * (1 + 1e-9));
    }
  }
}

TEST_F(Galvatron, NegativeLayerTimesAreRefusedByKey) {
  const fs::path configs = folder_ / "v2.4.0/galvatron/models/llama_fa/configs";
  const fs::path memory = folder_ / "v2.1/galvatron/models/llama_fa/configs";
  try {
    read_galvatron_model(configs / "computation_profiling_bf16_hidden4096_head32_seqlen2048.json",
                         memory / "memory_profiling_bf16_hidden4096_head32_seqlen2048.json",
                         {.hidden = 4096, .sequence = 2048});
    FAIL() << "a negative time was read";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("computation_profiling_bf16_hidden4096"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("layertype_0"));
  }
}

TEST_F(Galvatron, UnfinishedProfilesNameWhatIsMissing) {
  const fs::path configs = folder_ / "main/galvatron/models/gpt/configs";
  try {
    read_galvatron_model(configs / "computation_profiling_bf16_llama2-7b_seqlen2048_all.json",
                         configs / "memory_profiling_bf16_llama2-7b_seqlen2048_all.json",
                         {.hidden = 4096, .sequence = 2048});
    FAIL() << "an unfinished profile was read";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("_seqlen2048_all.json"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("layertype_0"));
  }
}

}  // namespace
}  // namespace shardwise
