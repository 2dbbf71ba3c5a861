// Progress of long work on standard error.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace shardwise {

// What a long command is at, for a person who waits. Silent for the first two seconds. On a
// terminal one line that replaces itself, at most five times a second; elsewhere (a log, or the
// pipe of a launcher) a line of its own, at most every five seconds. Thread-compatible.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const std::string& text);
  // Takes the line off a terminal, so that what follows starts clean.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  const bool is_terminal_;
  Clock::time_point next_;
  bool is_shown_ = false;
};

// Shows describe() on a ProgressLine, from a thread of its own, for as long as it lives. describe
// must be callable from another thread.
class BackgroundProgress {
 public:
  explicit BackgroundProgress(std::function<std::string()> describe);
  ~BackgroundProgress();
  BackgroundProgress(const BackgroundProgress&) = delete;
  BackgroundProgress& operator=(const BackgroundProgress&) = delete;

 private:
  void run();

  const std::function<std::string()> describe_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool is_ended_ = false;
  std::thread thread_;
};

// Result of `work`, with progress while it runs.
template <class Work>
auto while_showing(std::function<std::string()> describe, const Work& work) {
  const BackgroundProgress progress(std::move(describe));
  return work();
}

}  // namespace shardwise
