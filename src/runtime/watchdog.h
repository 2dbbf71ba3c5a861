// Ends the process when its compute thread makes no progress for too long: a hang inside a kernel
// cannot be interrupted, only left.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/units.h"
#include "runtime/activity.h"

namespace shardwise {

class Watchdog {
 public:
  // Looks at `activity` every tenth of `limit` (at most every second). Once its age exceeds `limit`
  // calls `expired` with a sentence that names rank, activity and time, and stops looking.
  // `activity` outlives the watchdog.
  Watchdog(const Activity& activity,
           int rank,
           Seconds limit,
           std::function<void(const std::string&)> expired);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void run();

  const Activity& activity_;
  int rank_;
  Seconds limit_;
  std::function<void(const std::string&)> expired_;
  std::mutex mutex_;
  std::condition_variable stop_requested_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace shardwise
