#include "runtime/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace shardwise {

double learning_rate_at(const LearningRateSchedule& schedule, std::int64_t step) {
  if (step <= schedule.warmup_steps) {
    return schedule.peak * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
  }
  if (schedule.total_steps <= schedule.warmup_steps) {
    return schedule.peak;
  }
  const double done =
      std::min(1.0,
               static_cast<double>(step - schedule.warmup_steps) /
                   static_cast<double>(schedule.total_steps - schedule.warmup_steps));
  return schedule.floor +
         (schedule.peak - schedule.floor) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace shardwise
