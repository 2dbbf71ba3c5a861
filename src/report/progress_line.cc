#include "report/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace shardwise {

namespace {

constexpr std::chrono::seconds kSilent{2};
constexpr std::chrono::milliseconds kTerminalPeriod{200};
constexpr std::chrono::seconds kLogPeriod{5};

}  // namespace

ProgressLine::ProgressLine()
    : is_terminal_(::isatty(STDERR_FILENO) != 0), next_(Clock::now() + kSilent) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::show(const std::string& text) {
  const Clock::time_point now = Clock::now();
  if (now < next_) {
    return;
  }
  if (is_terminal_) {
    fmt::print(stderr, "\r\033[K{}", text);
    std::fflush(stderr);
    next_ = now + kTerminalPeriod;
  } else {
    fmt::print(stderr, "{}\n", text);
    next_ = now + kLogPeriod;
  }
  is_shown_ = true;
}

void ProgressLine::clear() {
  if (is_terminal_ && is_shown_) {
    fmt::print(stderr, "\r\033[K");
    std::fflush(stderr);
    is_shown_ = false;
  }
}

BackgroundProgress::BackgroundProgress(std::function<std::string()> describe)
    : describe_(std::move(describe)), thread_([this] { run(); }) {}

BackgroundProgress::~BackgroundProgress() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ended_ = true;
  }
  ended_.notify_one();
  thread_.join();
}

void BackgroundProgress::run() {
  ProgressLine line;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ended_.wait_for(lock, kTerminalPeriod, [this] { return is_ended_; })) {
    line.show(describe_());
  }
}

}  // namespace shardwise
