// What a rank is doing right now, and since when: written by its compute thread, read by the
// threads that watch over it (heartbeat, watchdog).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "core/units.h"

namespace shardwise {

class Activity {
 public:
  // `what` has static storage duration ("forward", "all-reduce"). -1: does not apply.
  void begin(const char* what, int layer = -1, int microbatch = -1);
  void set_step(std::int64_t step);

  // "forward of layer 3, micro-batch 1, step 12"
  std::string describe() const;
  // Time since the last begin().
  Seconds age() const;

 private:
  std::atomic<const char*> what_{"start"};
  std::atomic<int> layer_{-1};
  std::atomic<int> microbatch_{-1};
  std::atomic<std::int64_t> step_{-1};
  std::atomic<std::int64_t> since_ns_{0};
};

}  // namespace shardwise
