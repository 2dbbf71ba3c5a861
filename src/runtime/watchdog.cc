#include "runtime/watchdog.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace shardwise {

Watchdog::Watchdog(const Activity& activity,
                   int rank,
                   Seconds limit,
                   std::function<void(const std::string&)> expired)
    : activity_(activity),
      rank_(rank),
      limit_(limit),
      expired_(std::move(expired)),
      thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stop_requested_.notify_all();
  thread_.join();
}

void Watchdog::run() {
  const std::chrono::duration<double> interval(std::min(1.0, limit_.count / 10));
  std::unique_lock lock(mutex_);
  while (!stop_requested_.wait_for(lock, interval, [this] { return stop_; })) {
    if (activity_.age() > limit_) {
      expired_(fmt::format("rank {}: {}: no progress for {:.0f} s (--timeout {:.0f} s)",
                           rank_,
                           activity_.describe(),
                           activity_.age().count,
                           limit_.count));
      return;
    }
  }
}

}  // namespace shardwise
