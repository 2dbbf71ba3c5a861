#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>

#include "core/errors.h"
#include "planner/listed_problem.h"
#include "planner/solver_bench_testing.h"

namespace shardwise {
namespace {

struct Sizes {
  int layers = 4;
  int options = 3;
  bool is_mixed = false;  // two device types
};

// Times and sizes without any law, memory from hopeless to plenty, one layout or several.
ListedProblem random_problem(unsigned seed, const Sizes& sizes) {
  auto random = std::make_shared<std::mt19937>(seed);
  const auto pick = [&](int least, int most) {
    return least + static_cast<int>((*random)() % static_cast<unsigned>(most - least + 1));
  };
  ListedProblem problem;
  const int num_types = sizes.is_mixed ? 2 : 1;
  const int num_layouts = pick(1, 3);
  const int num_layers = pick(1, sizes.layers);
  const int memory = pick(0, 3) == 0 ? 1000 : pick(10, 60);
  for (int type = 0; type < num_types; ++type) {
    problem.types.push_back({"type", pick(1, 8 / num_types), Bytes(memory + pick(0, 10))});
    const int meshes = pick(1, 2);
    for (int mesh = 0; mesh < meshes; ++mesh) {
      problem.meshes.push_back({type, pick(1, 4), "mesh"});
    }
  }
  const int num_blocks = pick(1, num_layers);
  for (int layer = 0; layer < num_layers; ++layer) {
    problem.layers.push_back(layer < num_blocks ? layer : pick(0, num_blocks - 1));
  }
  for (int block = 0; block < num_blocks; ++block) {
    problem.options.emplace_back(problem.meshes.size());
    for (std::vector<ListedOption>& options : problem.options.back()) {
      const int count = pick(pick(0, 9) == 0 ? 0 : 1, sizes.options);
      for (int i = 0; i < count; ++i) {
        ListedOption option;
        option.forward = Picoseconds(pick(1, 20));
        option.backward = Picoseconds(pick(0, 30));
        option.per_step = Picoseconds(pick(0, 40));
        option.state = Bytes(pick(0, 12));
        option.activations = Bytes(pick(0, 6));
        option.transient = Bytes(pick(0, 5));
        option.input = pick(0, num_layouts - 1);
        option.output = pick(0, num_layouts - 1);
        options.push_back(option);
      }
    }
  }
  const auto price = [seed](int a, int b, int c, int d, int e) -> std::optional<ListedMove> {
    std::mt19937 own(seed * 977U + static_cast<unsigned>(a + 7 * b + 31 * c + 101 * d + 307 * e));
    if (own() % 12 == 0) {
      return std::nullopt;
    }
    return ListedMove{Picoseconds(static_cast<std::int64_t>(own() % 9)),
                      Picoseconds(static_cast<std::int64_t>(own() % 9))};
  };
  if (pick(0, 3) > 0) {
    problem.reshard = [price](int block, int mesh, int output, int input) {
      return price(block, mesh, output, input, 0);
    };
  }
  if (pick(0, 3) > 0) {
    problem.crossing = [price](int block, int sender, int output, int receiver, int input) {
      return price(block, sender + 10, output, input, receiver + 1);
    };
  }
  problem.num_microbatches = pick(1, 6);
  const std::vector<std::vector<Schedule>> schedules = {
      {Schedule::k1F1B},
      {Schedule::k1F1BEager},
      {Schedule::kGpipe},
      {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe}};
  problem.schedules = schedules[static_cast<std::size_t>(pick(0, 3))];
  problem.overhead = Picoseconds(pick(0, 10));
  return problem;
}

// Every plan, one after the other, judged by evaluate_listed().
class BruteForce {
 public:
  explicit BruteForce(const ListedProblem& problem) : problem_(problem) {}

  std::optional<Picoseconds> best() {
    for (const Schedule schedule : problem_.schedules) {
      ListedPlan plan;
      plan.schedule = schedule;
      add_layer(plan, 0);
    }
    return best_;
  }
  std::int64_t plans = 0;
  bool gave_up() const { return plans > 30'000; }

 private:
  void add_layer(ListedPlan& plan, int layer) {
    if (gave_up()) {
      return;
    }
    if (layer == static_cast<int>(problem_.layers.size())) {
      judge(plan);
      return;
    }
    if (!plan.stages.empty()) {
      choose(plan, layer);
    }
    for (int mesh = 0; mesh < static_cast<int>(problem_.meshes.size()); ++mesh) {
      plan.stages.push_back({mesh, layer, {}});
      choose(plan, layer);
      plan.stages.pop_back();
    }
  }

  void choose(ListedPlan& plan, int layer) {
    const auto block = static_cast<std::size_t>(problem_.layers[static_cast<std::size_t>(layer)]);
    const auto mesh = static_cast<std::size_t>(plan.stages.back().mesh);
    for (std::size_t i = 0; i < problem_.options[block][mesh].size(); ++i) {
      plan.stages.back().options.push_back(static_cast<int>(i));
      add_layer(plan, layer + 1);
      plan.stages.back().options.pop_back();
    }
  }

  void judge(const ListedPlan& plan) {
    ++plans;
    try {
      const ListedEvaluation evaluation = evaluate_listed(plan, problem_);
      if (evaluation.fits && (!best_ || evaluation.step_time < *best_)) {
        best_ = evaluation.step_time;
      }
    } catch (const InputError&) {
      return;  // a move that is not allowed
    }
  }

  const ListedProblem& problem_;
  std::optional<Picoseconds> best_;
};

void compare(int instances, unsigned first_seed, const std::vector<Sizes>& sizes) {
  int feasible = 0;
  int infeasible = 0;
  std::int64_t plans = 0;
  for (unsigned seed = first_seed; feasible + infeasible < instances; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const ListedProblem problem = random_problem(seed, sizes[seed % sizes.size()]);
    BruteForce oracle(problem);
    const std::optional<Picoseconds> best = oracle.best();
    if (oracle.gave_up()) {
      continue;
    }
    plans += oracle.plans;
    const ListedResult found = find_listed_plan(problem);
    ASSERT_EQ(found.plan.has_value(), best.has_value());
    (best ? feasible : infeasible) += 1;
    if (best) {
      EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
      ASSERT_EQ(found.step_time, *best);
      EXPECT_EQ(found.lower_bound, found.step_time);
    } else {
      EXPECT_EQ(found.stop_reason, StopReason::kInfeasible);
    }
  }
  std::cout << feasible << " feasible and " << infeasible << " infeasible instances from seed "
            << first_seed << ", " << plans << " plans\n";
  EXPECT_GE(feasible, instances / 4);
  EXPECT_GE(infeasible, instances / 20);
}

TEST(ListedPlan, EqualsBruteForceOnOneDeviceType) {
  compare(1200, 1, {{4, 3, false}, {6, 2, false}, {3, 6, false}});
}

TEST(ListedPlan, EqualsBruteForceOnMixedDevices) {
  compare(500, 100'000, {{4, 2, true}, {3, 3, true}, {2, 6, true}});
}

// The optima are stated in the data's README.
TEST(ListedPlan, FindsTheOptimaOfTheSolverBench) {
  const char* data = std::getenv("SHARDWISE_DATA");
  const std::string folder =
      std::string(data == nullptr ? "../shared/data" : data) + "/solver_bench";
  const std::vector<std::pair<std::string, std::int64_t>> optima = {
      {"s", 108'783'250}, {"m", 245'396'259}, {"l", 358'322'261}};
  for (const auto& [name, optimum] : optima) {
    const std::optional<ListedProblem> problem =
        testing::read_solver_bench(fmt::format("{}/{}.dat", folder, name));
    if (!problem) {
      GTEST_SKIP() << "no " << folder << "/" << name << ".dat";
    }
    const auto begin = std::chrono::steady_clock::now();
    const ListedResult found = find_listed_plan(*problem);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    std::cout << name << ": " << time.count() << " s\n";
    EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
    // Sums of up to 200 values that the file rounds to six digits.
    EXPECT_NEAR(static_cast<double>(found.step_time.count), static_cast<double>(optimum), 1);
    EXPECT_EQ(found.lower_bound, found.step_time);
  }
}

TEST(ListedPlan, BadNumbersAreNamed) {
  ListedProblem problem;
  problem.types = {{"device", 1, Bytes(10)}};
  problem.meshes = {{0, 1, "one"}};
  problem.layers = {0};
  problem.options = {{{ListedOption{}}}};
  EXPECT_TRUE(find_listed_plan(problem).plan.has_value());
  problem.options[0][0][0].forward = Picoseconds(-1);
  EXPECT_THROW(find_listed_plan(problem), InputError);
  problem.options[0][0][0].forward = Picoseconds(1);
  problem.layers = {1};
  EXPECT_THROW(find_listed_plan(problem), InputError);
  problem.layers = {0};
  problem.schedules = {Schedule::kInterleaved};
  EXPECT_THROW(find_listed_plan(problem), InputError);
}

}  // namespace
}  // namespace shardwise
