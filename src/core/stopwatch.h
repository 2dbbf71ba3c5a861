// How long something takes.
#pragma once

#include <chrono>

#include "core/units.h"

namespace shardwise {

// Measures from its making on; monotonic.
class Stopwatch {
 public:
  Seconds elapsed() const {
    return Seconds(std::chrono::duration<double>(Clock::now() - begin_).count());
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
};

// Of one call of `run`.
template <typename Run>
Seconds time_of(const Run& run) {
  const Stopwatch watch;
  run();
  return watch.elapsed();
}

}  // namespace shardwise
