// What a run tells while it goes: a line a step for people, a JSON object a step for programs.
#pragma once

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "core/units.h"

namespace shardwise {

struct StepRecord {
  std::int64_t step = 0;
  double loss = 0;
  double gradient_norm = 0;
  Seconds step_time{0};
  double tokens_per_second = 0;
  double learning_rate = 0;
  std::optional<double> evaluation_loss = std::nullopt;
};

// {"step":1,"loss":5.6,...}: keys as in trainer.h, numbers that read back exactly.
std::string to_json_line(const StepRecord& record);

// "step 12/100  loss 5.4321  norm 1.23  1,234 tokens/s  0:42 left"
std::string to_progress_line(const StepRecord& record, std::int64_t total_steps, Seconds time_left);

class StepLog {
 public:
  // `path` empty: no file. A run whose first step is 1 begins a new file; a resumed one keeps the
  // lines of steps before `first_step`. Throws InputError if the file cannot be opened.
  StepLog(const std::filesystem::path& path, std::int64_t first_step, std::int64_t total_steps);

  // Prints and writes. Throws RuntimeFailure if the file cannot be written.
  void add(const StepRecord& record);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
  std::int64_t total_steps_;
  Seconds recent_{0};  // running mean of step times
};

}  // namespace shardwise
