#include "runtime/step_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/errors.h"

namespace shardwise {
namespace {

const StepRecord kRecord = {.step = 12,
                            .loss = 5.4321,
                            .gradient_norm = 0.5,
                            .step_time = Seconds(0.25),
                            .tokens_per_second = 12345.6,
                            .learning_rate = 0.001};

TEST(StepLog, JsonLineHasStableKeys) {
  EXPECT_EQ(to_json_line(kRecord),
            "{\"step\":12,\"loss\":5.4321,\"gradient_norm\":0.5,\"step_time_s\":0.25,"
            "\"tokens_per_s\":12345.6,\"learning_rate\":0.001}");
  StepRecord evaluated = kRecord;
  evaluated.evaluation_loss = 5.5;
  EXPECT_TRUE(to_json_line(evaluated).ends_with(",\"evaluation_loss\":5.5}"));
}

TEST(StepLog, ProgressLineIsForPeople) {
  EXPECT_EQ(to_progress_line(kRecord, 100, Seconds(61.2)),
            "step 12/100  loss 5.4321  norm 0.500  12,346 tokens/s  1:02 left");
  EXPECT_TRUE(to_progress_line(kRecord, 100, Seconds(3725)).ends_with("1:02:05 left"));
}

TEST(StepLog, RefusesAFileThatCannotBeWritten) {
  EXPECT_THROW(StepLog("/nowhere/steps.jsonl", 1, 1), InputError);
}

TEST(StepLog, ResumedRunReplacesTheLinesOfStepsThatItRunsAgain) {
  const std::filesystem::path path =
      std::filesystem::path(::testing::TempDir()) / "resumed_steps.jsonl";
  const auto record = [](std::int64_t step) {
    StepRecord made = kRecord;
    made.step = step;
    return made;
  };
  {
    StepLog log(path, 1, 9);
    for (std::int64_t step = 1; step <= 3; ++step) {
      log.add(record(step));
    }
  }
  std::ofstream(path, std::ios::app) << "{\"step\":4,\"lo";  // cut by a kill
  {
    StepLog log(path, 3, 9);
    log.add(record(3));
  }
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  EXPECT_EQ(lines,
            (std::vector<std::string>{
                to_json_line(record(1)), to_json_line(record(2)), to_json_line(record(3))}));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace shardwise
