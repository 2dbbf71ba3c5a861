#include "runtime/step_log.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "files/atomic_file.h"

namespace shardwise {
namespace {

// 1234567 -> "1,234,567"
std::string with_commas(double value) {
  std::string text = fmt::format("{:.0f}", value);
  for (int i = static_cast<int>(text.size()) - 3; i > 0; i -= 3) {
    text.insert(static_cast<std::size_t>(i), ",");
  }
  return text;
}

std::string clock_time(Seconds time) {
  const auto seconds = static_cast<std::int64_t>(std::ceil(time.count));
  if (seconds >= 3600) {
    return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  }
  return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

// Takes away lines of later steps, and a last one that a kill cut.
void keep_lines_before(const std::filesystem::path& path, std::int64_t first_step) {
  std::ifstream file(path);
  if (!file) {
    return;
  }
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto step = record.is_object() ? record.find("step") : record.end();
    if (step != record.end() && step->is_number_integer() &&
        step->get<std::int64_t>() < first_step) {
      kept += line + "\n";
    }
  }
  write_file_atomically(path, kept);
}

}  // namespace

std::string to_json_line(const StepRecord& record) {
  std::string line = fmt::format(
      "{{\"step\":{},\"loss\":{},\"gradient_norm\":{},\"step_time_s\":{},\"tokens_per_s\":{},"
      "\"learning_rate\":{}",
      record.step,
      record.loss,
      record.gradient_norm,
      record.step_time.count,
      record.tokens_per_second,
      record.learning_rate);
  if (record.evaluation_loss) {
    line += fmt::format(",\"evaluation_loss\":{}", *record.evaluation_loss);
  }
  return line + "}";
}

std::string to_progress_line(const StepRecord& record,
                             std::int64_t total_steps,
                             Seconds time_left) {
  std::string line = fmt::format("step {}/{}  loss {:.4f}  norm {:.3f}  {} tokens/s  {} left",
                                 record.step,
                                 total_steps,
                                 record.loss,
                                 record.gradient_norm,
                                 with_commas(record.tokens_per_second),
                                 clock_time(time_left));
  if (record.evaluation_loss) {
    line += fmt::format("  evaluation loss {:.4f}", *record.evaluation_loss);
  }
  return line;
}

StepLog::StepLog(const std::filesystem::path& path,
                 std::int64_t first_step,
                 std::int64_t total_steps)
    : path_(path), total_steps_(total_steps) {
  if (path_.empty()) {
    return;
  }
  if (first_step > 1) {
    keep_lines_before(path_, first_step);
  }
  file_.open(path_, first_step > 1 ? std::ios::app : std::ios::trunc);
  if (!file_) {
    throw InputError(path_.string(), "expected a file that can be written; check --log");
  }
}

void StepLog::add(const StepRecord& record) {
  constexpr double kMemory = 0.8;
  recent_ =
      recent_.count == 0 ? record.step_time : kMemory * recent_ + (1 - kMemory) * record.step_time;
  const double steps_left = static_cast<double>(total_steps_ - record.step);
  fmt::print("{}\n", to_progress_line(record, total_steps_, steps_left * recent_));
  std::fflush(stdout);
  if (!path_.empty()) {
    file_ << to_json_line(record) << '\n';
    file_.flush();
    if (!file_) {
      throw RuntimeFailure(
          fmt::format("rank 0: cannot write the log {} at step {}", path_.string(), record.step));
    }
  }
}

}  // namespace shardwise
