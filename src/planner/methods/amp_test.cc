#include "planner/methods/amp.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <random>

namespace shardwise {
namespace {

TEST(Amp, SixteenDevicesHaveItsPublishedCandidates) {
  EXPECT_EQ(amp_candidates(16, 4, 32).size(), 53U);
  EXPECT_EQ(amp_candidates(16, 4, 64).size(), 65U);
}

TEST(Amp, CandidatesUseEveryDevice) {
  for (const AmpCandidate& candidate : amp_candidates(16, 4, 64)) {
    EXPECT_EQ(candidate.tensor * candidate.data * candidate.pipeline, 16);
    EXPECT_EQ(64 % (candidate.data * candidate.micro), 0);
  }
}

// (m - 1) longest stage + transfers; the sum of stage times is the same for every split.
std::int64_t value_of(const std::vector<Picoseconds>& layers,
                      const std::vector<Picoseconds>& transfers,
                      const std::vector<int>& sizes,
                      int microbatches) {
  std::int64_t longest = 0;
  std::int64_t moved = 0;
  std::size_t i = 0;
  for (const int size : sizes) {
    std::int64_t time = 0;
    for (int n = 0; n < size; ++n, ++i) {
      time += layers[i].count;
    }
    longest = std::max(longest, time);
    moved += i < layers.size() ? transfers[i - 1].count : 0;
  }
  return (microbatches - 1) * longest + moved;
}

TEST(Amp, LayerSplitAgreesWithBruteForce) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    const int count = pick(1, 8);
    const int stages = pick(1, count);
    const int microbatches = pick(1, 6);
    std::vector<Picoseconds> layers;
    std::vector<Picoseconds> transfers;
    for (int l = 0; l < count; ++l) {
      layers.emplace_back(pick(1, 20));
      transfers.emplace_back(pick(0, 30));
    }
    std::int64_t best = std::numeric_limits<std::int64_t>::max();
    std::vector<int> sizes;
    const std::function<void(int)> cut = [&](int left) {
      if (static_cast<int>(sizes.size()) + 1 == stages) {
        sizes.push_back(left);
        best = std::min(best, value_of(layers, transfers, sizes, microbatches));
        sizes.pop_back();
        return;
      }
      for (int size = 1; size < left; ++size) {
        sizes.push_back(size);
        cut(left - size);
        sizes.pop_back();
      }
    };
    cut(count);
    const std::vector<int> found = split_layers(layers, transfers, stages, microbatches);
    ASSERT_EQ(found.size(), static_cast<std::size_t>(stages));
    EXPECT_EQ(value_of(layers, transfers, found, microbatches), best);
  }
}

}  // namespace
}  // namespace shardwise
