// Repeated measurements of one row, and the row they make.
#pragma once

#include <vector>

#include "core/units.h"

namespace shardwise {

// Requires at least one sample.
struct SampleSummary {
  // Mean without the slowest tenth: a step adds up thousands of times, so that their mean counts;
  // what the system does in between now and then does not.
  Seconds time{0};
  double spread = 0;  // half the interquartile range over the median
};
SampleSummary summarize(std::vector<double> seconds);

// `count` sizes from `smallest` to `largest`, evenly spaced in log size, multiples of `step`, each
// once, both ends included (rounded up to the step). Requires 0 < smallest <= largest, step >= 1.
std::vector<std::int64_t> size_ladder(std::int64_t smallest,
                                      std::int64_t largest,
                                      int count,
                                      std::int64_t step);

}  // namespace shardwise
