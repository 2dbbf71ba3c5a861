#include "planner/elimination.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace shardwise::planning {
namespace {

// A random sum of tables, and its value at a point.
struct RandomSum {
  explicit RandomSum(unsigned seed) : random(seed) {
    for (int v = 0; v < 6; ++v) {
      sizes.push_back(1 + static_cast<int>(random() % 4));
      sum.add_variable(sizes.back());
    }
    for (int f = 0; f < 8; ++f) {
      std::vector<int> scope{0, 1, 2, 3, 4, 5};
      std::shuffle(scope.begin(), scope.end(), random);
      scope.resize(1 + random() % 3);
      std::size_t size = 1;
      for (const int v : scope) {
        size *= static_cast<std::size_t>(sizes[static_cast<std::size_t>(v)]);
      }
      std::vector<double> values;
      for (std::size_t i = 0; i < size; ++i) {
        values.push_back(random() % 12 == 0 ? kForbidden : static_cast<double>(random() % 50));
      }
      factors.push_back({scope, values});
      sum.add_factor(scope, values);
    }
  }

  double at(const std::vector<int>& point) const {
    double total = 0;
    for (const auto& [scope, values] : factors) {
      std::size_t index = 0;
      for (const int v : scope) {
        index = index * static_cast<std::size_t>(sizes[static_cast<std::size_t>(v)]) +
                static_cast<std::size_t>(point[static_cast<std::size_t>(v)]);
      }
      total += values[index];
    }
    return total;
  }

  template <typename Visit>
  void for_all(Visit visit) const {
    std::vector<int> point(sizes.size(), 0);
    while (true) {
      visit(point);
      std::size_t v = 0;
      while (v < sizes.size() && ++point[v] == sizes[v]) {
        point[v++] = 0;
      }
      if (v == sizes.size()) {
        return;
      }
    }
  }

  std::mt19937 random;
  std::vector<int> sizes;
  std::vector<std::pair<std::vector<int>, std::vector<double>>> factors;
  Elimination sum;
};

TEST(Elimination, MinimaAndMarginalsEqualEnumeration) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    RandomSum problem(seed);
    problem.sum.run({4, 1});
    const auto columns = static_cast<std::size_t>(problem.sizes[1]);
    std::vector<double> allowance;
    for (std::size_t i = 0; i < problem.sum.minimum().size(); ++i) {
      allowance.push_back(static_cast<double>(problem.random() % 30));
    }
    std::vector<double> minimum(problem.sum.minimum().size(), kForbidden);
    std::vector<std::vector<double>> marginals;
    for (const int size : problem.sizes) {
      marginals.emplace_back(static_cast<std::size_t>(size), kForbidden);
    }
    problem.for_all([&](const std::vector<int>& point) {
      const std::size_t kept =
          static_cast<std::size_t>(point[4]) * columns + static_cast<std::size_t>(point[1]);
      const double value = problem.at(point);
      minimum[kept] = std::min(minimum[kept], value);
      for (std::size_t v = 0; v < point.size(); ++v) {
        double& marginal = marginals[v][static_cast<std::size_t>(point[v])];
        marginal = std::min(marginal, value - allowance[kept]);
      }
    });
    EXPECT_EQ(problem.sum.minimum(), minimum);
    EXPECT_EQ(problem.sum.min_marginals(allowance), marginals);
    for (std::size_t i = 0; i < minimum.size(); ++i) {
      if (minimum[i] < kForbidden) {
        const std::vector<int> point =
            problem.sum.minimiser({static_cast<int>(i / columns), static_cast<int>(i % columns)});
        EXPECT_EQ(problem.at(point), minimum[i]);
      }
    }
  }
}

}  // namespace
}  // namespace shardwise::planning
