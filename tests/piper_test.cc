// Piper's published optima on its own inputs.
#include "planner/methods/piper.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <vector>

#include "cost/piper_problem.h"
#include "io/piper_problem.h"

namespace shardwise {
namespace {

namespace fs = std::filesystem;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

struct Published {
  const char* file;
  int devices;
  double memory_gib;  // 0: the file's
  int microbatches;   // 0: the file's
  double seconds;     // 0: Piper found none in 400 s
  double digit;       // half of the last printed one
};

class Piper : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("SHARDWISE_DATA");
    folder_ = fs::path(data != nullptr ? data : "../shared/data") / "piper";
    if (!fs::exists(folder_)) {
      GTEST_SKIP() << "no Piper inputs in " << folder_ << "; set SHARDWISE_DATA";
    }
  }

  PiperProblem problem(const char* file, int devices, double memory_gib, int microbatches) const {
    PiperProblem result = read_piper_problem(folder_ / file);
    result.devices = devices;
    result.bandwidth = 25 * kGiB;
    if (memory_gib > 0) {
      result.memory_bytes = memory_gib * kGiB;
    }
    if (microbatches > 0) {
      result.microbatches = microbatches;
    }
    return result;
  }

  // At least as good as published, proved, accepted by the independent evaluation; the CPU time is
  // printed.
  void expect_optima(const std::vector<Published>& rows) const {
    for (const Published& row : rows) {
      const PiperProblem instance =
          problem(row.file, row.devices, row.memory_gib, row.microbatches);
      SCOPED_TRACE(fmt::format("{} on {}", row.file, row.devices));
      const std::clock_t start = std::clock();
      const PiperResult found = find_piper_plan(instance);
      const double cpu_s = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      ASSERT_TRUE(found.plan.has_value());
      const PiperEvaluation judged = evaluate_piper(instance, *found.plan);
      fmt::print(
          "{} on {}: Piper {:.7g} s, exact {:.7g} s ({}), {} stages, {} downsets, {:.2f} CPU s\n",
          row.file,
          row.devices,
          row.seconds,
          judged.seconds_per_microbatch,
          to_string(found.stop_reason),
          found.plan->stages.size(),
          found.downsets,
          cpu_s);
      EXPECT_TRUE(judged.fits);
      EXPECT_EQ(judged.seconds_per_microbatch, found.seconds_per_microbatch);
      EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
      if (row.seconds > 0) {
        EXPECT_LE(judged.seconds_per_microbatch, row.seconds + row.digit);
      }
    }
  }

  fs::path folder_;
};

TEST_F(Piper, BertOptimaAreReproducedOrBeaten) {
  expect_optima({
      {"bert32a100.json", 8, 8, 1920, 0.165856, 5e-7},
      {"bert32a100.json", 32, 8, 1920, 0.041515, 5e-7},
      {"bert32a100.json", 64, 8, 1920, 0.020201, 5e-7},
      {"bert32a100.json", 128, 8, 1920, 0.010121, 5e-7},
      {"bert32a100.json", 512, 8, 1920, 0.002561, 5e-7},
      {"bert32a100.json", 1024, 8, 1920, 0.001303, 5e-7},
      {"bert32a100.json", 64, 2, 512, 0.033328, 5e-7},
  });
}

TEST_F(Piper, ResNetOptimaAreReproducedOrBeaten) {
  expect_optima({
      {"resnet.json", 16, 4, 0, 35.3334, 5e-5},
      {"resnet.json", 64, 4, 0, 8.66677, 5e-6},
  });
}

TEST_F(Piper, GnmtIsSolvedWherePiperFoundNone) {
  expect_optima({
      {"gnmt.json", 8, 0, 0, 0, 0},
      {"gnmt.json", 32, 0, 0, 0, 0},
      {"gnmt.json", 64, 0, 0, 0, 0},
  });
}

TEST_F(Piper, BertInOneGibibyteIsInfeasible) {
  const PiperResult found = find_piper_plan(problem("bert32a100.json", 64, 1, 1920));
  EXPECT_EQ(found.stop_reason, StopReason::kInfeasible);
  EXPECT_FALSE(found.plan.has_value());
}

}  // namespace
}  // namespace shardwise
