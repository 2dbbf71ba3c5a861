#include "cost/size_curve.h"

#include <cmath>
#include <iterator>

namespace shardwise {

Estimate read_curve(const SizeCurve& curve, std::int64_t size) {
  if (size <= 0) {
    return {};
  }
  const auto above = curve.lower_bound(size);
  if (above != curve.end() && above->first == size) {
    return {above->second, false};
  }
  if (above == curve.begin()) {
    return {above->second, true};
  }
  const auto below = std::prev(above);
  if (above == curve.end()) {
    const double factor = static_cast<double>(size) / static_cast<double>(below->first);
    return {factor * below->second, true};
  }
  const double share =
      std::log(static_cast<double>(size) / static_cast<double>(below->first)) /
      std::log(static_cast<double>(above->first) / static_cast<double>(below->first));
  return {Seconds(below->second.count * std::pow(above->second / below->second, share)), false};
}

}  // namespace shardwise
