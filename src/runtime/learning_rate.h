// Learning rate by step: linear warm-up, then half a cosine down to a floor.
#pragma once

#include <cstdint>

namespace shardwise {

struct LearningRateSchedule {
  double peak = 3e-4;
  double floor = 3e-5;  // reached at `total_steps`, kept after
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 0;  // 0: constant after the warm-up
};

// Rate of step t, t counted from 1. With w warm-up steps of T in all:
//
//   peak t / w                                                     t <= w
//   floor + (peak - floor) (1 + cos(pi (t - w) / (T - w))) / 2     w < t <= T
//
// Source: Loshchilov and Hutter, ICLR'17 (SGDR), equation 5, one period; warm-up as in GPT-3.
double learning_rate_at(const LearningRateSchedule& schedule, std::int64_t step);

}  // namespace shardwise
