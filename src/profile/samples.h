// Repeated measurements of one row, and the row they make.
#pragma once

#include <vector>

#include "core/units.h"

namespace shardwise {

struct SampleSummary {
  Seconds time{0};    // mean of the samples that count
  double spread = 0;  // half the interquartile range over the median
};

// Of computing, the slowest tenth does not count: a step adds up thousands of times, so that their
// mean matters, but not what the system does in between now and then. Of waiting for others all
// counts: it is in the slow samples that ranks have drifted apart.
inline constexpr double kCountedOfWork = 0.9;
inline constexpr double kCountedOfWaiting = 1;

// The mean is over the fastest `counted` share. Requires at least one sample.
SampleSummary summarize(std::vector<double> seconds, double counted);

// `count` sizes from `smallest` to `largest`, evenly spaced in log size, multiples of `step`, each
// once, both ends included (rounded up to the step). Requires 0 < smallest <= largest, step >= 1.
std::vector<std::int64_t> size_ladder(std::int64_t smallest,
                                      std::int64_t largest,
                                      int count,
                                      std::int64_t step);

}  // namespace shardwise
