// Plans under constraints, against brute force over all plans that keep to them. What a constraint
// means is spelled out here a second time.
#include "graph/constraints.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <set>

#include "graph/block_builder.h"
#include "planner/brute_force_testing.h"
#include "planner/planner.h"
#include "planner/random_table_testing.h"

namespace shardwise {
namespace {

using Polarity = Constraint::Polarity;

// embedding, layer.0 (layer.1), head.
Graph small_chain(int decoders, int kind, std::int64_t microbatch, std::int64_t sequence) {
  const BlockBuilder::Axes h{{"h", 4}};
  const BlockBuilder::Axes f{{"f", 4}};
  const BlockBuilder::Axes v{{"v", 4, AxisSharding::kPadded}};
  Graph graph;
  graph.model_type = "small chain";
  graph.microbatch = microbatch;
  graph.sequence = sequence;
  BlockBuilder first("embedding", microbatch, sequence);
  first.boundary_output(first.embedding("token", first.tokens(), 4, 4, 0.02));
  BlockBuilder inner("layer", microbatch, sequence);
  const TensorIndex x = inner.boundary_input(4);
  if (kind == 0) {
    inner.boundary_output(inner.activation("act", x, "gelu"));
  } else {
    const TensorIndex up = inner.linear("up", x, h, f, false, 0.02);
    inner.boundary_output(inner.linear("down", up, f, h, false, 0.02));
  }
  BlockBuilder last("head", microbatch, sequence);
  const TensorIndex y = last.boundary_input(4);
  last.cross_entropy("loss", last.linear("linear", y, h, v, false, 0.02), last.targets());
  graph.blocks = {std::move(first).build(), std::move(inner).build(), std::move(last).build()};
  graph.layers.push_back({"embedding", "", 0});
  for (int layer = 0; layer < decoders; ++layer) {
    graph.layers.push_back({fmt::format("layer.{}", layer), fmt::format("{}.", layer), 1});
  }
  graph.layers.push_back({"head", "", 2});
  return graph;
}

class Instance {
 public:
  explicit Instance(unsigned seed) : random_(seed), table_(seed) {
    const int decoders = pick(1, 2);
    const int kind = decoders == 2 ? 0 : pick(0, 1);
    const std::int64_t sequence = pick(1, 2);
    request.graph = [=](std::int64_t microbatch) {
      return small_chain(decoders, kind, microbatch, sequence);
    };
    request.batch = 2;
    request.sequence = sequence;
    request.free_axes = 1;
    request.runner_ups = RunnerUps::kSkip;
    request.schedules = {Schedule::k1F1B};
    const StateSharding state =
        pick(0, 1) == 0 ? StateSharding::kOptimizer : StateSharding::kParameters;
    request.limits.state_shardings = {StateSharding::kNone, state};
    request.limits.recomputes = {Recompute::kNone};
    if (kind == 1 || pick(0, 1) == 0) {
      request.limits.recomputes.push_back(Recompute::kFull);
    }
    if (decoders == 2) {
      request.limits.state_shardings.resize(1);
    }
    cluster.name = "random";
    DeviceType type;
    type.name = "device";
    type.memory = Bytes(pick(0, 3) == 0 ? pick(900, 2500) : 100000);
    cluster.types = {type};
    cluster.groups = {{0, pick(2, 3)}};
    cluster.levels = {{"node", 2, BytesPerSecond(1), Seconds(0)},
                      {"network", 2, BytesPerSecond(1), Seconds(0)}};
  }

  int pick(int least, int most) {
    return least + static_cast<int>(random_() % static_cast<unsigned>(most - least + 1));
  }

  std::string pattern() {
    const std::vector<std::string> all = {"*", "layer.*", "head", "layer.0", "embedding"};
    return all[static_cast<std::size_t>(pick(0, 4))];
  }

  PlanRequest request;
  Cluster cluster;
  const CostTable& table() const { return table_; }

 private:
  std::mt19937 random_;
  testing::RandomTable table_;
};

// One layer of a plan.
struct Asked {
  const Graph& graph;
  int layer = 0;
  const Mesh& mesh;
  const LayerPlan& chosen;
  bool begins_stage = false;
};

// Every degree of the layer's ops on one of these axes, 1 where such an axis is not sharded.
std::vector<int> degrees(const Asked& asked, const std::set<std::string>& names) {
  std::vector<int> all;
  const Block& block = asked.graph.block_of(asked.layer);
  for (std::size_t o = 0; o < block.ops.size(); ++o) {
    bool has_axis = false;
    int degree = 1;
    for (std::size_t a = 0; a < block.ops[o].axes.size(); ++a) {
      const LoopAxis& axis = block.ops[o].axes[a];
      if (!names.contains(axis.name) || axis.sharding == AxisSharding::kNever) {
        continue;
      }
      has_axis = true;
      for (std::size_t m = 0; m < kMeshAxes; ++m) {
        if (asked.chosen.op_axes[o][m] == static_cast<int>(a)) {
          degree *= asked.mesh.sizes[m];
        }
      }
    }
    if (has_axis) {
      all.push_back(degree);
    }
  }
  return all;
}

std::vector<int> values_of(const Asked& asked, const std::string& key) {
  if (key == "data") {
    return degrees(asked, {"b"});
  }
  if (key == "tensor") {
    return degrees(asked, {"f", "v"});
  }
  if (key == "sequence") {
    return degrees(asked, {"s"});
  }
  if (key == "recompute") {
    return {static_cast<int>(asked.chosen.recompute)};
  }
  if (key == "state") {
    return {static_cast<int>(asked.chosen.state_sharding)};
  }
  if (asked.layer == 0) {
    return {};
  }
  if (key == "cut") {
    return {asked.begins_stage ? 1 : 0};
  }
  int degree = 1;
  for (std::size_t m = 0; m < kMeshAxes; ++m) {
    const AxisLayout& axis = asked.chosen.input_layout[m];
    if (axis.kind == AxisLayout::Kind::kShard && axis.dim == key.back() - '0') {
      degree *= asked.mesh.sizes[m];
    }
  }
  return {degree};
}

struct Wish {
  Polarity polarity = Polarity::kPin;
  std::string pattern;
  std::string key;
  int value = 0;
};

bool keeps(const Asked& asked, const Wish& wish) {
  const std::string& name = asked.graph.layers[static_cast<std::size_t>(asked.layer)].name;
  const bool matches = wish.pattern == "*" || wish.pattern == name ||
                       (wish.pattern == "layer.*" && name.compare(0, 6, "layer.") == 0);
  if (!matches) {
    return true;
  }
  const std::vector<int> values = values_of(asked, wish.key);
  return std::all_of(values.begin(), values.end(), [&](int found) {
    return (found == wish.value) == (wish.polarity == Polarity::kPin);
  });
}

bool keeps(const Plan& plan, const Graph& graph, const Wish& wish) {
  for (int layer = 0; layer < static_cast<int>(graph.layers.size()); ++layer) {
    const LayerPlace place = place_of(plan, layer);
    const Mesh& mesh = plan.stages[static_cast<std::size_t>(place.stage)].mesh;
    if (!keeps({graph, layer, mesh, layer_plan(plan, place), place.index == 0}, wish)) {
      return false;
    }
  }
  return true;
}

struct Kind {
  std::string key;
  std::vector<std::string> values;  // texts, by the number that values_of gives
  int first = 0;                    // number of values[0]
};

class ConstrainedPlans : public ::testing::TestWithParam<Kind> {};

TEST_P(ConstrainedPlans, EqualBruteForceOverTheRestrictedSpace) {
  const Kind& kind = GetParam();
  // SHARDWISE_LONG_TESTS: as many as the acceptance asks for.
  const int most = std::getenv("SHARDWISE_LONG_TESTS") == nullptr ? 6 : 60;
  int compared = 0;
  int infeasible = 0;
  int binding = 0;
  for (unsigned seed = 1; compared < most && seed < 8U * static_cast<unsigned>(most); ++seed) {
    SCOPED_TRACE(fmt::format("{} seed {}", kind.key, seed));
    Instance instance(seed * 1000 + static_cast<unsigned>(kind.key.size()));
    const Polarity polarity = seed % 2 == 0 ? Polarity::kPin : Polarity::kForbid;
    const std::string pattern = instance.pattern();
    const int choice = instance.pick(0, static_cast<int>(kind.values.size()) - 1);
    const std::string text =
        pattern + ": " + kind.key + "=" + kind.values[static_cast<std::size_t>(choice)];
    if (kind.key == "cut" && polarity == Polarity::kPin &&
        (pattern == "*" || pattern == "embedding")) {
      continue;  // refused: nothing comes before the first layer
    }
    const PlanResult free = find_plan(instance.request, instance.cluster, instance.table());
    instance.request.constraints = {parse_constraint(polarity, text, "test")};
    const PlanResult result = find_plan(instance.request, instance.cluster, instance.table());
    testing::BruteForce oracle(instance.request, instance.cluster, instance.table());
    const Wish wish{polarity, pattern, kind.key, kind.first + choice};
    oracle.accepts = [&](const Plan& plan, const Graph& graph) { return keeps(plan, graph, wish); };
    oracle.tag = [&](const Graph& graph, int layer, const Mesh& mesh, const LayerPlan& chosen) {
      return wish.key != "cut" && keeps({graph, layer, mesh, chosen}, wish) ? 1 : 0;
    };
    const auto best = oracle.best();
    if (oracle.gave_up()) {
      continue;
    }
    ++compared;
    ASSERT_EQ(result.plan.has_value(), best.has_value()) << text;
    if (!best) {
      ++infeasible;
      EXPECT_EQ(result.stop_reason, StopReason::kInfeasible);
      continue;
    }
    ASSERT_EQ(result.step_time, *best) << text;
    const Graph graph = instance.request.graph(result.plan->microbatch());
    EXPECT_TRUE(oracle.accepts(*result.plan, graph)) << text;
    EXPECT_TRUE(constraint_violations(instance.request.constraints, *result.plan, graph).empty());
    binding += result.step_time > free.step_time ? 1 : 0;
  }
  std::cout << kind.key << ": " << compared << " compared, " << infeasible << " infeasible, "
            << binding << " dearer than without the constraint\n";
  EXPECT_EQ(compared, most);
  if (most > 50) {  // enough that some must bind
    EXPECT_GT(binding, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds,
                         ConstrainedPlans,
                         ::testing::Values(Kind{"data", {"1", "2"}, 1},
                                           Kind{"tensor", {"1", "2"}, 1},
                                           Kind{"sequence", {"1", "2"}, 1},
                                           Kind{"boundary.0", {"1", "2"}, 1},
                                           Kind{"boundary.2", {"1", "2"}, 1},
                                           Kind{"recompute", {"none", "selective", "full"}, 0},
                                           Kind{"state", {"none", "optimizer"}, 0},
                                           Kind{"cut", {"before"}, 1}));

}  // namespace
}  // namespace shardwise
