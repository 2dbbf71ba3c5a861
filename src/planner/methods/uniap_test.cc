#include "planner/methods/uniap.h"

#include <gmock/gmock.h>

#include <random>

namespace shardwise {
namespace {

struct Sizes {
  int layers = 4;
  int strategies = 3;
  int stages = 2;
};

UniapProblem random_problem(unsigned seed, const Sizes& sizes, bool has_skips) {
  std::mt19937 random(seed);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  UniapProblem problem;
  problem.stages = sizes.stages;
  problem.microbatches = pick(1, 6);
  std::int64_t memory = 0;
  for (int u = 0; u < sizes.layers; ++u) {
    problem.layers.emplace_back();
    for (int k = 0; k < sizes.strategies; ++k) {
      // Faster strategies hold more.
      const int time = pick(10, 60);
      problem.layers.back().push_back({Picoseconds(time), Bytes(70 - time + pick(0, 20))});
      memory += problem.layers.back().back().memory.count;
    }
  }
  problem.memory = Bytes(memory / sizes.strategies / sizes.stages * pick(80, 160) / 100);
  const auto costs = [&] {
    std::vector<std::vector<Picoseconds>> result;
    for (int k = 0; k < sizes.strategies; ++k) {
      result.emplace_back();
      for (int l = 0; l < sizes.strategies; ++l) {
        result.back().emplace_back(k == l ? pick(0, 3) : pick(0, 25));
      }
    }
    return result;
  };
  for (int u = 0; u + 1 < sizes.layers; ++u) {
    problem.edges.push_back({u, u + 1, costs(), costs()});
  }
  if (has_skips) {
    problem.edges.push_back({0, pick(2, sizes.layers - 1), costs(), costs()});
  }
  return problem;
}

std::optional<Picoseconds> brute_force(const UniapProblem& problem) {
  const std::size_t layers = problem.layers.size();
  std::optional<Picoseconds> best;
  UniapPlan plan{std::vector<int>(layers, 0), std::vector<int>(layers, 0)};
  while (true) {
    const auto time = evaluate_uniap(problem, plan);
    if (time && (!best || *time < *best)) {
      best = time;
    }
    std::size_t u = 0;
    for (; u < layers; ++u) {
      if (++plan.strategy[u] < static_cast<int>(problem.layers[u].size())) {
        break;
      }
      plan.strategy[u] = 0;
      if (++plan.stage[u] < problem.stages) {
        break;
      }
      plan.stage[u] = 0;
    }
    if (u == layers) {
      return best;
    }
  }
}

void expect_equal(const UniapResult& found, const std::optional<Picoseconds>& expected) {
  ASSERT_EQ(found.plan.has_value(), expected.has_value());
  if (expected) {
    EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
    EXPECT_EQ(found.step_time, *expected);
  }
}

TEST(Uniap, ProgrammeAndExactSearchAgreeWithBruteForce) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    for (const UniapSpace space :
         {UniapSpace::kJoint, UniapSpace::kInterOnly, UniapSpace::kIntraOnly}) {
      SCOPED_TRACE(seed);
      UniapProblem problem =
          random_problem(seed, {.layers = 4, .strategies = 2, .stages = 2}, false);
      problem.space = space;
      const auto expected = brute_force(problem);
      expect_equal(solve_uniap_exactly(problem), expected);
      if (has_highs()) {
        expect_equal(solve_uniap_milp(problem), expected);
      }
    }
  }
}

TEST(Uniap, ProgrammeAgreesWithBruteForceOnSkipConnections) {
  if (!has_highs()) {
    GTEST_SKIP() << "this build has no HiGHS";
  }
  for (unsigned seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    const UniapProblem problem =
        random_problem(seed, {.layers = 4, .strategies = 2, .stages = 3}, true);
    expect_equal(solve_uniap_milp(problem), brute_force(problem));
  }
}

TEST(Uniap, ProgrammeEqualsTheExactSearchOnLargerChains) {
  if (!has_highs()) {
    GTEST_SKIP() << "this build has no HiGHS";
  }
  int solved = 0;
  for (unsigned seed = 100; seed < 160; ++seed) {
    SCOPED_TRACE(seed);
    const int stages = 1 + static_cast<int>(seed % 4);
    const UniapProblem problem =
        random_problem(seed, {.layers = 7, .strategies = 3, .stages = stages}, false);
    const UniapResult exact = solve_uniap_exactly(problem);
    const UniapResult milp = solve_uniap_milp(problem);
    ASSERT_EQ(exact.plan.has_value(), milp.plan.has_value());
    if (exact.plan) {
      EXPECT_EQ(exact.step_time, milp.step_time);
      EXPECT_EQ(exact.lower_bound, exact.step_time);
      ++solved;
    }
  }
  EXPECT_GE(solved, 50);
}

}  // namespace
}  // namespace shardwise
