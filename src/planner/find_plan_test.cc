#include <gtest/gtest.h>

#include <iostream>
#include <random>

#include "cost/fake_table.h"
#include "planner/brute_force_testing.h"
#include "planner/planner.h"
#include "planner/random_table_testing.h"
#include "planner/tiny_models_testing.h"

namespace shardwise {
namespace {

using testing::RandomTable;

// A graph of one to three (interleaved: six) tiny layers.
struct TinyChain {
  int decoders = 1;
  bool is_single = false;  // one layer: embedding and loss together
  bool is_tied = false;
  int kind = 0;  // what a decoder does
  bool norm_in_head = false;
  std::int64_t sequence = 1;
  std::int64_t width = 4;
  std::int64_t vocabulary = 4;

  Block decoder(std::int64_t microbatch) const {
    const BlockBuilder::Axes h{{"h", width, AxisSharding::kEven}};
    const BlockBuilder::Axes f{{"f", 3, AxisSharding::kEven}};
    BlockBuilder build("decoder", microbatch, sequence);
    const TensorIndex x = build.boundary_input(width);
    switch (kind) {
      case 0:
        build.boundary_output(build.activation("act", x, "gelu"));
        break;
      case 1:
        build.boundary_output(build.add("add", x, build.layer_norm("norm", x, 1e-5)));
        break;
      case 2:
        build.boundary_output(build.linear("linear", x, h, h, true, 0.02));
        break;
      case 3:
        build.boundary_output(build.add("add", x, build.linear("linear", x, h, h, false, 0.02)));
        break;
      default:
        build.boundary_output(
            build.linear("down",
                         build.activation("act", build.linear("up", x, h, f, false, 0.02), "gelu"),
                         f,
                         h,
                         true,
                         0.02));
    }
    return std::move(build).build();
  }

  Graph graph(std::int64_t microbatch) const {
    const BlockBuilder::Axes h{{"h", width, AxisSharding::kEven}};
    const BlockBuilder::Axes v{{"v", vocabulary, AxisSharding::kPadded}};
    Graph graph;
    graph.model_type = "tiny chain";
    graph.microbatch = microbatch;
    graph.sequence = sequence;
    BlockBuilder first("first", microbatch, sequence);
    TensorIndex x = first.embedding("embedding", first.tokens(), vocabulary, width, 0.02);
    if (is_single) {
      first.cross_entropy("loss", first.linear("head", x, h, v, false, 0.02), first.targets());
      graph.blocks = {std::move(first).build()};
      graph.layers = {{"all", "", 0}};
      return graph;
    }
    first.boundary_output(x);
    BlockBuilder last("last", microbatch, sequence);
    TensorIndex y = last.boundary_input(width);
    if (norm_in_head) {
      y = last.layer_norm("norm", y, 1e-5);
    }
    last.cross_entropy("loss", last.linear("head", y, h, v, false, 0.02), last.targets());
    graph.blocks = {std::move(first).build(), decoder(microbatch), std::move(last).build()};
    graph.layers.push_back({"first", "", 0});
    for (int i = 0; i < decoders; ++i) {
      graph.layers.push_back({"decoder", "", 1});
    }
    graph.layers.push_back({"last", "", 2});
    if (is_tied) {
      const int head = norm_in_head ? 1 : 0;
      graph.tied = {{0,
                     graph.blocks[0].ops[0].parameters[0].tensor,
                     decoders + 1,
                     graph.blocks[2].ops[static_cast<std::size_t>(head)].parameters[0].tensor}};
    }
    return graph;
  }
};

struct Instance {
  TinyChain chain;
  PlanRequest request;
  Cluster cluster;
};

template <typename Value>
std::vector<Value> some_of(std::vector<Value> all, std::size_t count, std::mt19937& random) {
  std::shuffle(all.begin(), all.end(), random);
  all.resize(count);
  return all;
}

Instance random_instance(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  };
  Instance instance;
  TinyChain& chain = instance.chain;
  chain.is_single = pick(0, 9) == 0;
  chain.decoders = pick(0, 1);
  chain.kind = pick(0, 4);
  chain.norm_in_head = pick(0, 3) == 0;
  chain.is_tied = !chain.is_single && pick(0, 2) == 0;
  chain.sequence = pick(0, 4) == 0 ? 2 : 1;
  chain.vocabulary = pick(3, 4);
  chain.width = pick(0, 3) == 0 ? 2 : 4;
  const bool is_interleaved = pick(0, 7) == 0;
  if (is_interleaved) {
    chain.is_single = false;
    chain.decoders = 4;
    chain.kind = pick(0, 1);
    chain.norm_in_head = false;
    chain.sequence = 1;
  }
  PlanRequest& request = instance.request;
  request.batch = pick(1, 2) * 2;
  request.sequence = chain.sequence;
  request.graph = [chain](std::int64_t microbatch) { return chain.graph(microbatch); };
  request.free_axes = pick(0, 5) == 0 ? 2 : 1;
  request.runner_ups = RunnerUps::kSkip;
  request.precision = pick(0, 1) == 0 ? Precision::kFloat32 : Precision::kBFloat16;
  request.limits.state_shardings = some_of<StateSharding>({StateSharding::kNone,
                                                           StateSharding::kOptimizer,
                                                           StateSharding::kGradients,
                                                           StateSharding::kParameters},
                                                          static_cast<std::size_t>(pick(1, 2)),
                                                          random);
  request.limits.recomputes =
      some_of<Recompute>({Recompute::kNone, Recompute::kSelective, Recompute::kFull},
                         static_cast<std::size_t>(chain.decoders > 0 ? pick(1, 2) : pick(1, 3)),
                         random);
  if (is_interleaved) {
    request.limits.state_shardings.resize(1);
    request.limits.recomputes.resize(1);
    request.schedules = {Schedule::kInterleaved};
    request.microbatch_counts = {2};
  } else if (pick(0, 3) == 0) {
    request.schedules = {pick(0, 1) == 0 ? Schedule::kGpipe : Schedule::k1F1BEager};
  }
  Cluster& cluster = instance.cluster;
  const int devices = pick(2, is_interleaved ? 2 : 4);
  const bool two_types = devices > 2 && pick(0, 2) == 0;
  cluster.types.resize(two_types ? 2 : 1);
  const int of_first = two_types ? pick(1, devices - 1) : devices;
  cluster.groups = {{0, of_first}};
  if (two_types) {
    cluster.groups.push_back({1, devices - of_first});
  }
  cluster.levels = {{"node", devices, {}, {}}};
  if (devices >= 3 && pick(0, 2) == 0) {
    cluster.levels = {{"node", 2, {}, {}}, {"network", 2, {}, {}}};
  }
  for (DeviceType& type : cluster.types) {
    type.reserve = Bytes(pick(0, 50));
    // From hopeless to plenty: one device holds everything within about 2000 bytes.
    type.memory = Bytes(pick(0, 4) == 0 ? 1 << 20 : pick(200, 1000));
  }
  return instance;
}

void expect_sound(const PlanResult& result, const Instance& instance, const CostTable& table) {
  ASSERT_TRUE(result.plan.has_value());
  const Graph graph = instance.request.graph(result.plan->microbatch());
  EXPECT_EQ(plan_violations(*result.plan, graph), std::vector<std::string>{});
  const Evaluation evaluation = evaluate(*result.plan, graph, instance.cluster, table);
  EXPECT_EQ(evaluation.step_time, result.step_time);
  EXPECT_TRUE(evaluation.fits());
  EXPECT_EQ(result.stop_reason, StopReason::kOptimal);
  EXPECT_EQ(result.lower_bound, result.step_time);
}

std::string describe(const Plan& plan, const Graph& graph) {
  std::string text = to_string(plan.schedule) + ", " + std::to_string(plan.num_microbatches) +
                     " micro-batches of " + std::to_string(plan.microbatch()) + "\n";
  for (const StagePlan& stage : plan.stages) {
    text += "  stage on " + std::to_string(stage.devices.front()) + "+" +
            std::to_string(stage.devices.size()) + ", " + to_string(stage.mesh) + "\n";
    for (const ChunkPlan& chunk : stage.chunks) {
      for (std::size_t i = 0; i < chunk.layers.size(); ++i) {
        const LayerPlan& layer = chunk.layers[i];
        text += "    in " + to_string(layer.input_layout) + ", " + to_string(layer.state_sharding) +
                ", recompute " + to_string(layer.recompute);
        const Block& block = graph.block_of(chunk.first_layer + static_cast<int>(i));
        for (std::size_t o = 0; o < block.ops.size(); ++o) {
          text += "; " + block.ops[o].name + ":";
          for (const std::int8_t axis : layer.op_axes[o]) {
            text += axis < 0 ? " -" : " " + block.ops[o].axes[static_cast<std::size_t>(axis)].name;
          }
        }
        text += "\n";
      }
      text += "    out " + to_string(chunk.output_layout) + "\n";
    }
  }
  return text;
}

TEST(FindPlan, EqualsBruteForceOverAllPlans) {
  int feasible = 0;
  int infeasible = 0;
  int skipped = 0;
  std::int64_t plans = 0;
  constexpr int kInstances = 320;
  for (unsigned seed = 1; feasible + infeasible < kInstances; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Instance instance = random_instance(seed);
    const RandomTable table(seed);
    testing::BruteForce oracle(instance.request, instance.cluster, table);
    oracle.most_plans = 40'000;
    const std::optional<Picoseconds> best = oracle.best();
    if (oracle.gave_up()) {
      ++skipped;
      continue;
    }
    plans += oracle.plans();
    const PlanResult found = find_plan(instance.request, instance.cluster, table);
    ASSERT_EQ(found.plan.has_value(), best.has_value());
    if (!best) {
      ++infeasible;
      EXPECT_EQ(found.stop_reason, StopReason::kInfeasible);
      continue;
    }
    ++feasible;
    ASSERT_EQ(found.step_time.count, best->count)
        << describe(*found.plan, instance.request.graph(found.plan->microbatch()))
        << describe(*oracle.best_plan(), instance.request.graph(oracle.best_plan()->microbatch()));
    expect_sound(found, instance, table);
  }
  std::cout << feasible << " feasible and " << infeasible << " infeasible instances, " << plans
            << " plans; " << skipped << " too large to enumerate\n";
  EXPECT_GE(feasible, 100);
  EXPECT_GE(infeasible, 20);
}

}  // namespace
}  // namespace shardwise
