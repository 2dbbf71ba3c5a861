#include "planner/methods/piper.h"

#include <gmock/gmock.h>

#include <functional>
#include <random>

namespace shardwise {
namespace {

PiperProblem random_problem(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  PiperProblem problem;
  problem.devices = pick(1, 4);
  problem.bandwidth = 10;
  problem.microbatches = 2 * pick(1, 2);
  const int count = pick(1, 4);
  problem.nodes.resize(static_cast<std::size_t>(count));
  for (int v = 0; v < count; ++v) {
    for (int u = 0; u < v; ++u) {
      if (pick(0, 1) == 0) {
        const int e = static_cast<int>(problem.edges.size());
        problem.edges.push_back({u, v, static_cast<double>(pick(0, 20))});
        problem.nodes[static_cast<std::size_t>(u)].edges_out.push_back(e);
        problem.nodes[static_cast<std::size_t>(v)].edges_in.push_back(e);
      }
    }
  }
  double memory = 0;
  for (PiperNode& node : problem.nodes) {
    for (int tensor = 1; tensor <= pick(1, 2); ++tensor) {
      PiperDegree degree{tensor, {}};
      for (int k = pick(1, 2); k > 0; --k) {
        PiperImplementation own;
        own.time_s = pick(1, 20) / static_cast<double>(tensor);
        own.parameter_bytes = pick(0, 30);
        own.memory_slope_bytes = pick(0, 10);
        own.memory_base_bytes = pick(0, 20);
        memory += own.memory_slope_bytes + own.memory_base_bytes;
        for (std::size_t e = 0; e < node.edges_in.size(); ++e) {
          own.sync_in_bytes.push_back(pick(0, 5));
        }
        for (std::size_t e = 0; e < node.edges_out.size(); ++e) {
          own.sync_out_bytes.push_back(pick(0, 5));
        }
        degree.implementations.push_back(std::move(own));
      }
      node.degrees.push_back(std::move(degree));
    }
  }
  problem.memory_bytes = memory / problem.devices * pick(5, 20) / 10;
  return problem;
}

// Every assignment of nodes to ordered stages, degrees and implementations.
class BruteForce {
 public:
  explicit BruteForce(const PiperProblem& problem)
      : problem_(problem), stage_of_(problem.nodes.size(), 0) {}

  std::optional<double> best() {
    place(0);
    return best_;
  }

 private:
  void place(std::size_t node) {
    if (node < stage_of_.size()) {
      for (stage_of_[node] = 0; stage_of_[node] < static_cast<int>(stage_of_.size());
           ++stage_of_[node]) {
        place(node + 1);
      }
      return;
    }
    PiperPlan plan;
    for (int s = 0; s < static_cast<int>(stage_of_.size()); ++s) {
      PiperStage stage;
      for (std::size_t v = 0; v < stage_of_.size(); ++v) {
        if (stage_of_[v] == s) {
          stage.nodes.push_back(static_cast<int>(v));
        }
      }
      if (!stage.nodes.empty()) {
        plan.stages.push_back(std::move(stage));
      }
    }
    for (const PiperEdge& edge : problem_.edges) {
      if (stage_of_[static_cast<std::size_t>(edge.source)] >
          stage_of_[static_cast<std::size_t>(edge.target)]) {
        return;
      }
    }
    choose_degrees(plan, 0, problem_.devices);
  }

  void choose_degrees(PiperPlan& plan, std::size_t s, int left) {
    if (s == plan.stages.size()) {
      choose_implementations(plan, 0, 0);
      return;
    }
    for (int tensor = 1; tensor <= 2; ++tensor) {
      for (int data = 1; data * tensor <= left; ++data) {
        plan.stages[s].tensor = tensor;
        plan.stages[s].data = data;
        choose_degrees(plan, s + 1, left - data * tensor);
      }
    }
  }

  void choose_implementations(PiperPlan& plan, std::size_t s, std::size_t i) {
    if (s == plan.stages.size()) {
      const PiperEvaluation found = evaluate_piper(problem_, plan);
      if (found.fits && (!best_ || found.seconds_per_microbatch < *best_)) {
        best_ = found.seconds_per_microbatch;
      }
      return;
    }
    PiperStage& stage = plan.stages[s];
    if (i == stage.nodes.size()) {
      choose_implementations(plan, s + 1, 0);
      return;
    }
    const auto* choices =
        problem_.nodes[static_cast<std::size_t>(stage.nodes[i])].at_degree(stage.tensor);
    stage.implementations.resize(stage.nodes.size());
    for (int k = 0; choices != nullptr && k < static_cast<int>(choices->size()); ++k) {
      stage.implementations[i] = k;
      choose_implementations(plan, s, i + 1);
    }
  }

  const PiperProblem& problem_;
  std::vector<int> stage_of_;
  std::optional<double> best_;
};

TEST(PiperMethod, AgreesWithBruteForce) {
  int feasible = 0;
  for (unsigned seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const PiperProblem problem = random_problem(seed);
    const std::optional<double> expected = BruteForce(problem).best();
    const PiperResult found = find_piper_plan(problem);
    ASSERT_EQ(found.plan.has_value(), expected.has_value());
    if (expected) {
      EXPECT_NEAR(found.seconds_per_microbatch, *expected, 1e-8 * *expected);
      EXPECT_LE(found.lower_bound, *expected * (1 + 1e-9));
      EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
      ++feasible;
    }
  }
  EXPECT_GT(feasible, 100);
  EXPECT_LT(feasible, 400);
}

}  // namespace
}  // namespace shardwise
