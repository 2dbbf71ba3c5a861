#include "profile/samples.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/errors.h"

namespace shardwise {

namespace {

// Linear interpolation between the two neighbouring samples of a sorted list.
double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

}  // namespace

SampleSummary summarize(std::vector<double> seconds, double counted_share) {
  SHARDWISE_CHECK(!seconds.empty(), "a row needs a sample");
  std::sort(seconds.begin(), seconds.end());
  const double median = quantile(seconds, 0.5);
  const double range = quantile(seconds, 0.75) - quantile(seconds, 0.25);
  const auto counted = std::max<std::size_t>(
      static_cast<std::size_t>(counted_share * static_cast<double>(seconds.size())), 1);
  const double sum =
      std::accumulate(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(counted), 0.0);
  return {Seconds(sum / static_cast<double>(counted)), median > 0 ? range / 2 / median : 0};
}

std::vector<std::int64_t> size_ladder(std::int64_t smallest,
                                      std::int64_t largest,
                                      int count,
                                      std::int64_t step) {
  SHARDWISE_CHECK(smallest > 0 && smallest <= largest && step > 0, "an empty range of sizes");
  std::vector<std::int64_t> sizes;
  const double ratio = static_cast<double>(largest) / static_cast<double>(smallest);
  for (int i = 0; i < count; ++i) {
    const double share = count > 1 ? static_cast<double>(i) / (count - 1) : 1;
    const double size = static_cast<double>(smallest) * std::pow(ratio, share);
    const auto steps =
        static_cast<std::int64_t>(std::ceil(size / static_cast<double>(step) - 1e-9));
    sizes.push_back(std::max<std::int64_t>(steps, 1) * step);
  }
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

}  // namespace shardwise
