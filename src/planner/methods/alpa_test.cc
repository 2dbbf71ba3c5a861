#include "planner/methods/alpa.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <random>

#include "planner/methods/uniap.h"

namespace shardwise {
namespace {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }

 private:
  std::mt19937 engine_;
};

AlpaStageProblem random_stages(unsigned seed) {
  Random random(seed);
  AlpaStageProblem problem;
  problem.layers = random.pick(1, 5);
  problem.devices = 1 << random.pick(0, 3);
  problem.microbatches = random.pick(1, 5);
  for (int size = 1; size <= problem.devices; size *= 2) {
    problem.submeshes.push_back(size);
  }
  for (int first = 0; first < problem.layers; ++first) {
    problem.options.emplace_back();
    for (int end = first + 1; end <= problem.layers; ++end) {
      problem.options.back().emplace_back();
      for (const int size : problem.submeshes) {
        problem.options.back().back().emplace_back();
        for (int o = random.pick(0, 2); o > 0; --o) {
          const int time = (end - first) * 40 / size + random.pick(0, 20);
          problem.options.back().back().back().push_back({Picoseconds(time), random.pick(0, 4)});
        }
      }
    }
  }
  return problem;
}

// The definition: every cut, submesh and option.
std::optional<Picoseconds> all_cuts(const AlpaStageProblem& problem) {
  std::optional<Picoseconds> best;
  std::vector<AlpaStageOption> chosen;
  const std::function<void(int, int)> go = [&](int layer, int left) {
    if (layer == problem.layers) {
      if (left != 0) {
        return;
      }
      Picoseconds sum{0};
      Picoseconds longest{0};
      for (std::size_t i = 0; i < chosen.size(); ++i) {
        if (chosen[i].most_successors < static_cast<int>(chosen.size() - 1 - i)) {
          return;
        }
        sum += chosen[i].time;
        longest = std::max(longest, chosen[i].time);
      }
      const Picoseconds total = sum + (problem.microbatches - 1) * longest;
      if (!best || total < *best) {
        best = total;
      }
      return;
    }
    for (int end = layer + 1; end <= problem.layers; ++end) {
      const auto& by_submesh =
          problem
              .options[static_cast<std::size_t>(layer)][static_cast<std::size_t>(end - layer - 1)];
      for (std::size_t m = 0; m < by_submesh.size(); ++m) {
        if (problem.submeshes[m] > left) {
          continue;
        }
        for (const AlpaStageOption& option : by_submesh[m]) {
          chosen.push_back(option);
          go(end, left - problem.submeshes[m]);
          chosen.pop_back();
        }
      }
    }
  };
  go(0, problem.devices);
  return best;
}

TEST(Alpa, StagesEqualTheirDefinition) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const AlpaStageProblem problem = random_stages(seed);
    const auto expected = all_cuts(problem);
    const auto found = find_alpa_stages(problem);
    ASSERT_EQ(found.has_value(), expected.has_value());
    if (expected) {
      EXPECT_EQ(found->step_time, *expected);
      EXPECT_EQ(found->stages.front().first_layer, 0);
      EXPECT_EQ(found->stages.back().end_layer, problem.layers);
    }
  }
}

AlpaOperators random_operators(unsigned seed) {
  Random random(seed);
  AlpaOperators operators;
  const int count = random.pick(2, 6);
  for (int v = 0; v < count; ++v) {
    operators.cost.emplace_back();
    operators.memory.emplace_back();
    for (int k = random.pick(1, 3); k > 0; --k) {
      operators.cost.back().emplace_back(random.pick(0, 40));
      operators.memory.back().emplace_back(random.pick(1, 20));
    }
    for (int u = std::max(0, v - 2); u < v; ++u) {
      if (u + 1 < v && random.pick(0, 1) == 0) {
        continue;
      }
      AlpaOperators::Edge edge{u, v, {}};
      for (std::size_t p = 0; p < operators.cost[static_cast<std::size_t>(u)].size(); ++p) {
        edge.reshard.emplace_back();
        for (std::size_t q = 0; q < operators.cost.back().size(); ++q) {
          edge.reshard.back().emplace_back(random.pick(0, 30));
        }
      }
      operators.edges.push_back(std::move(edge));
    }
  }
  if (seed % 2 == 0) {
    operators.memory_limit = Bytes(random.pick(20, 45));
    for (int v = 0; v + 1 < count; ++v) {
      operators.alive.push_back({v, v + 1});
    }
    operators.alive.push_back({0, count - 1});
    if (count == 2) {
      operators.alive.pop_back();
    }
  }
  return operators;
}

TEST(Alpa, ShardingsEqualBruteForce) {
  if (!has_highs()) {
    GTEST_SKIP() << "this build has no HiGHS";
  }
  for (unsigned seed = 0; seed < 80; ++seed) {
    SCOPED_TRACE(seed);
    const AlpaOperators operators = random_operators(seed);
    std::optional<Picoseconds> expected;
    std::vector<int> strategies(operators.cost.size(), 0);
    std::size_t v = 0;
    while (v < strategies.size()) {
      const auto cost = evaluate_alpa_shardings(operators, strategies);
      if (cost && (!expected || *cost < *expected)) {
        expected = cost;
      }
      for (v = 0;
           v < strategies.size() && ++strategies[v] == static_cast<int>(operators.cost[v].size());
           ++v) {
        strategies[v] = 0;
      }
    }
    const AlpaShardings found = solve_alpa_shardings(operators);
    ASSERT_EQ(!found.strategies.empty(), expected.has_value());
    if (expected) {
      EXPECT_EQ(found.cost, *expected);
      EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
    }
  }
}

}  // namespace
}  // namespace shardwise
