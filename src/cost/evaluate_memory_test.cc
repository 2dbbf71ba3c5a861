// Memory and traffic by hand on the small model: embedding 512 + layer 2160 + head 544 = 3216
// parameters with one layer; micro-batch 2, sequence 8, width 16, vocabulary 32.
#include <gtest/gtest.h>

#include "cost/evaluate.h"
#include "cost/fake_table.h"
#include "cost/test_models.h"

namespace shardwise {
namespace {

using test::small_cluster;
using test::small_model;
using test::staged_plan;

constexpr std::int64_t kParameters = 3216;

std::size_t at(CollectiveKind kind) { return static_cast<std::size_t>(kind); }

Evaluation run(const Plan& plan, const Graph& graph, int devices = 4) {
  EXPECT_EQ(plan_violations(plan, graph), std::vector<std::string>{});
  return evaluate(plan, graph, small_cluster(1, devices), FakeTable());
}

TEST(EvaluateMemory, OneDeviceHoldsEverything) {
  const Graph graph = small_model(2, 1);
  const StageMemory memory = run(staged_plan(graph, 2, 1, Mesh{}, {0, 3}), graph).stage_memory[0];
  EXPECT_EQ(memory.weights, Bytes(4 * kParameters));
  EXPECT_EQ(memory.gradients, Bytes(4 * kParameters));
  EXPECT_EQ(memory.optimizer, Bytes(8 * kParameters));
  // Layer: h, mean and rstd [2 8], norm's, up's and act's results. Head: h, mean and rstd, norm's
  // result, logits [2 8 32], log-sum-exp [2 8].
  EXPECT_EQ(memory.activations_per_microbatch,
            Bytes(4 * ((256 + 32 + 256 + 1024 + 1024) + (256 + 32 + 256 + 512 + 16))));
  EXPECT_EQ(memory.in_flight, 1);
  EXPECT_EQ(memory.boundary_buffers, Bytes(0));
  EXPECT_EQ(memory.reserve, Bytes(1000));
  EXPECT_EQ(memory.limit, Bytes(1 << 20));
  EXPECT_TRUE(memory.fits());
}

TEST(EvaluateMemory, HalfPrecisionKeepsMasterWeights) {
  const Graph graph = small_model(2, 1);
  Plan plan = staged_plan(graph, 2, 1, Mesh{}, {0, 3});
  plan.precision = Precision::kBFloat16;
  const StageMemory memory = run(plan, graph).stage_memory[0];
  EXPECT_EQ(memory.weights, Bytes(2 * kParameters));
  EXPECT_EQ(memory.gradients, Bytes(4 * kParameters));
  EXPECT_EQ(memory.optimizer, Bytes(12 * kParameters));
}

TEST(EvaluateMemory, StateShardingDividesOnePartAfterTheOther) {
  const Graph graph = small_model(2, 1);
  const auto memory_with = [&](StateSharding sharding) {
    Plan plan = staged_plan(graph, 2, 1, Mesh{{2, 1, 1}}, {0, 3});
    for (LayerPlan& layer : plan.stages[0].chunks[0].layers) {
      layer.state_sharding = sharding;
    }
    return run(plan, graph).stage_memory[0];
  };
  const StageMemory none = memory_with(StateSharding::kNone);
  const StageMemory optimizer = memory_with(StateSharding::kOptimizer);
  const StageMemory gradients = memory_with(StateSharding::kGradients);
  const StageMemory parameters = memory_with(StateSharding::kParameters);
  EXPECT_EQ(none.optimizer, Bytes(8 * kParameters));
  EXPECT_EQ(optimizer.optimizer, Bytes(4 * kParameters));
  EXPECT_EQ(optimizer.gradients, Bytes(4 * kParameters));
  EXPECT_EQ(gradients.gradients, Bytes(2 * kParameters));
  EXPECT_EQ(gradients.weights, Bytes(4 * kParameters));
  EXPECT_EQ(parameters.weights, Bytes(2 * kParameters));
  // By hand, [1 8 .] on each device. Head: the logits' gradient and the targets, 8 bytes each.
  // Layer, when the head has freed its 1072 / 2 elements: its output's gradient and two of width 64
  // while act's result is gone, and the largest op (up: 1088 parameters) at once.
  EXPECT_EQ(none.transient, Bytes(4 * 8 * 32 + 8 * 8));
  constexpr int kLayer = 8 * 16 + 2 * 8 * 64 - 8 * 64;
  EXPECT_EQ(gradients.transient, Bytes(4 * (kLayer - 1072 / 2 + 1088)));
  EXPECT_EQ(parameters.transient, Bytes(4 * (kLayer - 1072 / 2 + 2 * 1088)));
}

TEST(EvaluateMemory, BackwardFreesWhatItHasRead) {
  // One rank, one micro-batch in flight: the account is the most that is ever alive. Backward of
  // the layer: weights and all, what the layer keeps, its output's gradient, act's gradient; the
  // head has freed its own. Backward of the head: everything kept, the logits' gradient and 16
  // targets.
  const Graph graph = small_model(2, 1);
  const StageMemory memory = run(staged_plan(graph, 2, 1, Mesh{}, {0, 3}), graph).stage_memory[0];
  const Bytes layer(4 * (256 + 32 + 256 + 1024 + 1024));
  const Bytes head(4 * (256 + 32 + 256 + 512 + 16));
  EXPECT_EQ(memory.activations, layer + head);
  EXPECT_EQ(memory.activations + memory.transient,
            std::max(layer + Bytes(4 * (256 + 1024)), layer + head + Bytes(4 * 512 + 8 * 16)));
}

TEST(EvaluateMemory, RecomputedOpsHoldTheirGatheredParametersTogether) {
  const Graph graph = small_model(2, 1);
  const auto transient_with = [&](StateSharding sharding) {
    Plan plan = staged_plan(graph, 2, 1, Mesh{{2, 1, 1}}, {0, 3});
    for (LayerPlan& layer : plan.stages[0].chunks[0].layers) {
      layer.state_sharding = sharding;
      layer.recompute = Recompute::kFull;
    }
    return run(plan, graph).stage_memory[0].transient;
  };
  // norm and up run again (32 + 1088 parameters) and hold what they gathered; down's result is not
  // needed again: in its backward it adds 1040 weights and 1040 gradients, more than up's 1088.
  EXPECT_EQ(transient_with(StateSharding::kParameters),
            transient_with(StateSharding::kNone) + Bytes(4 * (32 + 1088 + 2 * 1040)));
}

TEST(EvaluateMemory, EarlyStagesHoldMoreMicrobatches) {
  const Graph graph = small_model(1, 2);
  Plan plan = staged_plan(graph, 4, 4, Mesh{}, {0, 2, 4});
  const Evaluation e = run(plan, graph);
  EXPECT_EQ(e.stage_memory[0].in_flight, 2);
  EXPECT_EQ(e.stage_memory[1].in_flight, 1);
  // One boundary each, [1 8 16] in fp32, on its way twice.
  EXPECT_EQ(e.stage_memory[0].boundary_buffers, Bytes(2 * 4 * 128));
  EXPECT_EQ(e.stage_memory[1].boundary_buffers, Bytes(2 * 4 * 128));
}

TEST(EvaluateMemory, MoreDataParallelismNeverKeepsMore) {
  const Graph graph = small_model(4, 2);
  Bytes before{std::int64_t{1} << 40};
  for (const int data : {1, 2, 4}) {
    const StageMemory memory =
        run(staged_plan(graph, 4, 1, Mesh{{data, 1, 1}}, {0, 4}), graph).stage_memory[0];
    EXPECT_LE(memory.activations_per_microbatch, before);
    before = memory.activations_per_microbatch;
  }
}

TEST(EvaluateMemory, ATiedParameterOnOneStageExistsOnce) {
  const Graph graph = small_model(2, 1, true);
  const Evaluation e = run(staged_plan(graph, 2, 1, Mesh{{2, 1, 1}}, {0, 3}), graph);
  EXPECT_EQ(e.stage_memory[0].weights, Bytes(4 * (kParameters - 512)));
  EXPECT_EQ(e.stage_memory[0].optimizer, Bytes(8 * (kParameters - 512)));
  EXPECT_EQ(e.stage_times[0].tied_exchange, Picoseconds(0));
  // Reduced once, with the owner.
  EXPECT_EQ(e.traffic[0].by_collective[at(CollectiveKind::kAllReduce)], 8 * (kParameters - 512));
}

TEST(EvaluateMemory, ATiedParameterOnTwoStagesIsExchanged) {
  // Last stage: layer 2160 + norm 32 with state, 512 without. Gradient and values: 2048 bytes each
  // way, once a step, beside 2 micro-batches of [1 8 16] fp32; 1 ps a byte.
  const Graph graph = small_model(1, 2, true);
  const Evaluation e = run(staged_plan(graph, 2, 2, Mesh{}, {0, 2, 4}), graph);
  EXPECT_EQ(e.stage_memory[1].weights, Bytes(4 * (2160 + 32 + 512)));
  EXPECT_EQ(e.stage_memory[1].gradients, Bytes(4 * (2160 + 32 + 512)));
  EXPECT_EQ(e.stage_memory[1].optimizer, Bytes(8 * (2160 + 32)));
  EXPECT_EQ(e.stage_memory[0].optimizer, Bytes(8 * (2160 + 512)));
  EXPECT_EQ(e.stage_times[0].tied_exchange, Picoseconds(4096));
  EXPECT_EQ(e.stage_times[1].tied_exchange, Picoseconds(4096));
  EXPECT_EQ(e.traffic[0].sends, std::vector<std::int64_t>{2 * 512 + 2048});
  EXPECT_EQ(e.traffic[1].sends, std::vector<std::int64_t>{2 * 512 + 2048});
}

TEST(EvaluateTraffic, MegatronsHalfBlockReducesTwiceTheHiddenStateEachWay) {
  // Tensor 2: up by columns, down by rows; an all-reduce counts 2 * b s h elements of 4 bytes,
  // forward and backward, 2 layers, 3 micro-batches. Norms and biases are replicated: nothing else.
  const Graph graph = small_model(2, 2);
  const Mesh mesh{{1, 2, 1}};
  Plan plan = staged_plan(graph, 6, 3, mesh, {0, 4});
  for (const int layer : {1, 2}) {
    const Block& block = graph.block_of(layer);
    for (std::size_t o = 1; o <= 3; ++o) {
      plan.stages[0].chunks[0].layers[static_cast<std::size_t>(layer)].op_axes[o][1] =
          test::axis(block.ops[o], "f");
    }
  }
  const Evaluation e = run(plan, graph);
  constexpr std::int64_t kHidden = 2 * 8 * 16;
  EXPECT_EQ(e.traffic[0].by_collective[at(CollectiveKind::kAllReduce)],
            3 * 2 * 2 * (2 * kHidden * 4));
  EXPECT_EQ(e.traffic[0].by_collective[at(CollectiveKind::kAllGather)], 0);
  EXPECT_EQ(e.traffic[0].by_collective[at(CollectiveKind::kReduceScatter)], 0);
}

TEST(EvaluateTraffic, StateShardingByHand) {
  // m = 3: gradients reduce-scatter every micro-batch, parameters gather twice in each.
  const Graph graph = small_model(2, 1);
  const auto traffic = [&](StateSharding sharding) {
    Plan plan = staged_plan(graph, 6, 3, Mesh{{2, 1, 1}}, {0, 3});
    for (LayerPlan& layer : plan.stages[0].chunks[0].layers) {
      layer.state_sharding = sharding;
    }
    return run(plan, graph).traffic[0].by_collective;
  };
  constexpr std::int64_t kAll = 4 * kParameters;
  EXPECT_EQ(traffic(StateSharding::kNone)[at(CollectiveKind::kAllReduce)], 2 * kAll);
  const auto optimizer = traffic(StateSharding::kOptimizer);
  EXPECT_EQ(optimizer[at(CollectiveKind::kReduceScatter)], kAll);
  EXPECT_EQ(optimizer[at(CollectiveKind::kAllGather)], kAll);
  const auto gradients = traffic(StateSharding::kGradients);
  EXPECT_EQ(gradients[at(CollectiveKind::kReduceScatter)], 3 * kAll);
  EXPECT_EQ(gradients[at(CollectiveKind::kAllGather)], kAll);
  const auto parameters = traffic(StateSharding::kParameters);
  EXPECT_EQ(parameters[at(CollectiveKind::kReduceScatter)], 3 * kAll);
  EXPECT_EQ(parameters[at(CollectiveKind::kAllGather)], 6 * kAll);
}

}  // namespace
}  // namespace shardwise
