// Times measured at some sizes, and what they say of the sizes between.
#pragma once

#include <cstdint>
#include <map>

#include "cost/cost_table.h"

namespace shardwise {

using SizeCurve = std::map<std::int64_t, Seconds>;  // size -> time

// Time at `size`: exact at a measured size; between two neighbours x0 < size < x1 a power law,
//   t = t0 (t1 / t0)^(log(size / x0) / log(x1 / x0));
// below the smallest its time (launch costs do not shrink), above the largest its time grown with
// the size, both flagged as extrapolated. No time for size 0. Requires a non-empty curve with
// positive sizes and times.
Estimate read_curve(const SizeCurve& curve, std::int64_t size);

}  // namespace shardwise
