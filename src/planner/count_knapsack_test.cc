#include "planner/count_knapsack.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>

namespace shardwise::planning {
namespace {

// Every way to give each layer an option.
std::optional<double> brute_force(const CountProblem& problem) {
  std::vector<const CountGroup*> layers;
  for (const CountGroup& group : problem.groups) {
    layers.insert(layers.end(), static_cast<std::size_t>(group.size), &group);
  }
  std::vector<std::size_t> choice(layers.size(), 0);
  std::optional<double> best;
  while (true) {
    double c = 0;
    double d = 0;
    std::int64_t memory = 0;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const CountOption& option = layers[l]->options[choice[l]];
      c += option.c;
      d += option.d;
      memory += option.memory;
    }
    if (memory <= problem.budget) {
      double value = -1e300;
      for (const CountPiece& piece : problem.pieces) {
        value = std::max(value, piece.slope * c + piece.weight * d + piece.constant);
      }
      best = best ? std::min(*best, value) : value;
    }
    std::size_t l = 0;
    while (l < layers.size() && ++choice[l] == layers[l]->options.size()) {
      choice[l++] = 0;
    }
    if (l == layers.size()) {
      return best;
    }
  }
}

TEST(CountKnapsack, AgreesWithBruteForce) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    CountProblem problem;
    int layers = 0;
    for (int g = pick(1, 2); g > 0; --g) {
      CountGroup group{pick(0, 4), {}};
      layers += group.size;
      for (int k = pick(1, 4); k > 0; --k) {
        group.options.push_back({pick(0, 20) * 1.0, pick(0, 5) * 1.0, pick(0, 12)});
      }
      problem.groups.push_back(group);
    }
    problem.budget = pick(0, 8 * std::max(layers, 1));
    for (int p = pick(1, 3); p > 0; --p) {
      problem.pieces.push_back({pick(0, 3) * 1.0, pick(0, 1) * 1.0, pick(0, 9) * 1.0});
    }
    const auto expected = brute_force(problem);
    const auto found = solve_counts(problem, 1e300);
    ASSERT_EQ(found.has_value(), expected.has_value());
    ASSERT_EQ(count_bound(problem).has_value(), expected.has_value());
    if (expected) {
      EXPECT_NEAR(found->value, *expected, 1e-9);
      EXPECT_LE(*count_bound(problem), *expected + 1e-9);
      EXPECT_FALSE(solve_counts(problem, *expected - 1e-6).has_value());
    }
    if (expected && problem.pieces.size() == 1) {
      const CountAnswer at_optimum = find_counts_within(problem, *expected + 1e-9);
      ASSERT_TRUE(at_optimum.solution.has_value());
      EXPECT_NEAR(at_optimum.solution->value, *expected, 1e-8);
      const CountAnswer below = find_counts_within(problem, *expected - 1e-6);
      EXPECT_FALSE(below.solution.has_value());
      EXPECT_TRUE(below.is_proved);
    }
  }
}

}  // namespace
}  // namespace shardwise::planning
