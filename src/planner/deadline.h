// When a search must stop: its time limit, or a request to stop from outside (Ctrl-C).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>

namespace shardwise::planning {

// Unwinds a search that must stop. Caught where the search was started: bounds proved and plans
// found so far stay, whatever was under way is dropped.
struct SearchStopped {};

// Asked in every long loop. One for each thread: not thread-safe.
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  Deadline() = default;
  // `stop`: ends the search as soon as it is true; may be null.
  Deadline(Clock::time_point end, const std::atomic<bool>* stop) : end_(end), stop_(stop) {}
  // From now on; more than about thirty years mean no limit.
  static Deadline after(double seconds, const std::atomic<bool>* stop) {
    if (seconds >= 1e9) {
      return {Clock::time_point::max(), stop};
    }
    const std::chrono::duration<double> limit(seconds);
    return {Clock::now() + std::chrono::duration_cast<Clock::duration>(limit), stop};
  }

  bool has_passed() const {
    return (stop_ != nullptr && stop_->load(std::memory_order_relaxed)) || Clock::now() > end_;
  }
  double seconds_left() const {
    if (end_ == Clock::time_point::max()) {
      return 1e9;
    }
    return std::max(0.0, std::chrono::duration<double>(end_ - Clock::now()).count());
  }
  // Throws SearchStopped. Cheap: looks at the clock every 64th time.
  void check() const {
    if ((++calls_ & 63U) == 0 && has_passed()) {
      throw SearchStopped{};
    }
  }

 private:
  Clock::time_point end_ = Clock::time_point::max();
  const std::atomic<bool>* stop_ = nullptr;
  mutable unsigned calls_ = 0;
};

}  // namespace shardwise::planning
