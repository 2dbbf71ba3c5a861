// Step times by hand. With FakeTable{launch 1000 ps, nothing per iteration} time counts kernels:
//   embedding  forward 1, backward 1
//   layer      forward 5 (norm, up, act, down, residual), backward 6 (norm, 2 up, act, 2 down)
//   head       forward 3 (norm, linear, loss), backward 4 (loss, 2 linear, norm)
#include <gtest/gtest.h>

#include "cost/evaluate.h"
#include "cost/evaluator.h"
#include "cost/fake_table.h"
#include "cost/test_models.h"

namespace shardwise {
namespace {

using test::small_cluster;
using test::small_model;
using test::staged_plan;

FakeTable kernel_counter() {
  FakeTable table;
  table.op_launch_ps = 1000;
  table.op_ps_per_iteration = 0;
  table.collective_ps_per_byte = 0;
  table.transfer_ps_per_byte = 0;
  table.optimizer_ps_per_element = 0;
  return table;
}

// Embedding and a layer | a layer and the head: f = 6, 8; b = 7, 10; p = 13, 18 (in ns).
struct TwoStages {
  Graph graph = small_model(1, 2);
  Plan plan = staged_plan(graph, 4, 4, Mesh{}, {0, 2, 4});
  Cluster cluster = small_cluster(1, 2);
  FakeTable table = kernel_counter();

  // One message costs `latency` in each direction: o = 2 * latency.
  Evaluation run(Schedule schedule, std::int64_t latency_ps) {
    plan.schedule = schedule;
    table.transfer_latency_ps = latency_ps;
    EXPECT_TRUE(plan_violations(plan, graph).empty());
    return evaluate(plan, graph, cluster, table);
  }
};

TEST(EvaluateTime, OneStageHasNoBubble) {
  // m (f + b) = 3 * (1 + 5 + 3 + 1 + 6 + 4) = 60.
  const Graph graph = small_model(1, 1);
  const Plan plan = staged_plan(graph, 3, 3, Mesh{}, {0, 3});
  const Evaluation e = evaluate(plan, graph, small_cluster(1, 1), kernel_counter());
  EXPECT_EQ(e.step_time, Picoseconds(60000));
}

TEST(EvaluateTime, OneForwardOneBackwardPaysTransfersInThePeriod) {
  // o = 20: pi = max(13 + 20, 18) = 33; fill = 13 + 18 + 20 = 51; 51 + 3 * 33 = 150.
  const Evaluation e = TwoStages().run(Schedule::k1F1B, 10000);
  EXPECT_EQ(e.stage_times[0].microbatch(), Picoseconds(13000));
  EXPECT_EQ(e.stage_times[1].microbatch(), Picoseconds(18000));
  EXPECT_EQ(e.period, Picoseconds(33000));
  EXPECT_EQ(e.fill, Picoseconds(51000));
  EXPECT_EQ(e.step_time, Picoseconds(150000));
}

TEST(EvaluateTime, EagerHidesTransfersBehindComputation) {
  // pi = max(18, 20) = 20: 51 + 3 * 20 = 111.
  EXPECT_EQ(TwoStages().run(Schedule::k1F1BEager, 10000).step_time, Picoseconds(111000));
}

TEST(EvaluateTime, GpipeTakesTheSlowestForwardAndTheSlowestBackward) {
  // o = 1 + 1: pi = max(6, 8, 1) + max(7, 10, 1) = 18, fill = 33: 33 + 54 = 87.
  EXPECT_EQ(TwoStages().run(Schedule::kGpipe, 1000).step_time, Picoseconds(87000));
  // o = 9 + 9: pi = max(8, 9) + max(10, 9) = 19, fill = 31 + 18 = 49: 49 + 57 = 106.
  EXPECT_EQ(TwoStages().run(Schedule::kGpipe, 9000).step_time, Picoseconds(106000));
}

TEST(EvaluateTime, InterleavingDividesTheBubble) {
  // Chunks: embedding + layer, layer | layer, layer + head: p = 2 + 22 = 24 and 22 + 7 = 29.
  // Messages of 0.5: stage 0 sends twice, stage 1 once (chunk 0 to chunk 1): o = 2, 1. pi = max(26,
  // 30) = 30, fill = 30 + 30 / 2, step = 45 + 3 * 30 = 135.
  const Graph graph = small_model(1, 4);
  const Plan plan = staged_plan(graph, 4, 4, Mesh{}, {0, 2, 3, 4, 6}, 2);
  ASSERT_TRUE(plan_violations(plan, graph).empty());
  FakeTable table = kernel_counter();
  table.transfer_latency_ps = 500;
  const Evaluation e = evaluate(plan, graph, small_cluster(1, 2), table);
  EXPECT_EQ(e.stage_times[0].transfer, Picoseconds(2000));
  EXPECT_EQ(e.stage_times[1].transfer, Picoseconds(1000));
  EXPECT_EQ(e.period, Picoseconds(30000));
  EXPECT_EQ(e.fill, Picoseconds(45000));
  EXPECT_EQ(e.step_time, Picoseconds(135000));
}

TEST(EvaluateTime, FullRecomputationRunsForwardAgain) {
  // norm, up and act again (down's result is not read): 20 kernels and these 3.
  const Graph graph = small_model(1, 1);
  Plan plan = staged_plan(graph, 1, 1, Mesh{}, {0, 3});
  plan.stages[0].chunks[0].layers[1].recompute = Recompute::kFull;
  const Evaluation e = evaluate(plan, graph, small_cluster(1, 1), kernel_counter());
  EXPECT_EQ(e.stage_times[0].recompute, Picoseconds(3000));
  EXPECT_EQ(e.step_time, Picoseconds(23000));
}

TEST(EvaluateTime, ReductionsHideBehindAShareOfTheirOwnBackward) {
  // Data 2, phi 1/2, 1 ps a byte; all-reduce payload = 8 bytes an element, one kernel hides 500:
  //   embedding 4096 - 500, norm 256 - 500 < 0, up 8704 - 1000, down 8320 - 1000,
  //   norm < 0, head 4096 - 1000                                           = 21716.
  const Graph graph = small_model(2, 1);
  const Plan plan = staged_plan(graph, 2, 1, Mesh{{2, 1, 1}}, {0, 3});
  ASSERT_TRUE(plan_violations(plan, graph).empty());
  FakeTable table = kernel_counter();
  table.collective_ps_per_byte = 1;
  table.overlap = 0.5;
  const Evaluation e = evaluate(plan, graph, small_cluster(1, 2), table);
  EXPECT_EQ(e.stage_times[0].exposed_reduction, Picoseconds(21716));
  EXPECT_EQ(e.per_step, Picoseconds(21716));
}

TEST(EvaluateTime, StateShardingMovesReductionsBetweenStepAndMicrobatch) {
  // 3216 parameters, all even, over data 2 and 1 ps a byte, phi 0: all-reduce 8 * 3216 a step;
  // reduce-scatter 4 * 3216 and gather 4 * 3216; in p from `gradients` on, gathers twice.
  const Graph graph = small_model(2, 1);
  FakeTable table = kernel_counter();
  table.collective_ps_per_byte = 1;
  const auto run = [&](StateSharding sharding) {
    Plan plan = staged_plan(graph, 2, 1, Mesh{{2, 1, 1}}, {0, 3});
    for (LayerPlan& layer : plan.stages[0].chunks[0].layers) {
      layer.state_sharding = sharding;
    }
    return evaluate(plan, graph, small_cluster(1, 2), table).stage_times[0];
  };
  constexpr std::int64_t kOnce = 4 * 3216;
  EXPECT_EQ(run(StateSharding::kNone).exposed_reduction, Picoseconds(2 * kOnce));
  const StageTime optimizer = run(StateSharding::kOptimizer);
  EXPECT_EQ(optimizer.exposed_reduction, Picoseconds(kOnce));
  EXPECT_EQ(optimizer.parameter_gather, Picoseconds(kOnce));
  const StageTime gradients = run(StateSharding::kGradients);
  EXPECT_EQ(gradients.exposed_reduction, Picoseconds(0));
  EXPECT_EQ(gradients.state_collectives, Picoseconds(kOnce));
  EXPECT_EQ(gradients.parameter_gather, Picoseconds(kOnce));
  const StageTime parameters = run(StateSharding::kParameters);
  EXPECT_EQ(parameters.state_collectives, Picoseconds(3 * kOnce));
  EXPECT_EQ(parameters.parameter_gather, Picoseconds(0));
  EXPECT_EQ(parameters.forward_total - parameters.forward, Picoseconds(kOnce));
}

TEST(EvaluateTime, UpdatesTakeTheShareOfARank) {
  const Graph graph = small_model(2, 1);
  FakeTable table = kernel_counter();
  table.optimizer_ps_per_element = 1;
  Plan plan = staged_plan(graph, 2, 1, Mesh{{2, 1, 1}}, {0, 3});
  EXPECT_EQ(evaluate(plan, graph, small_cluster(1, 2), table).stage_times[0].optimizer,
            Picoseconds(3216));
  for (LayerPlan& layer : plan.stages[0].chunks[0].layers) {
    layer.state_sharding = StateSharding::kOptimizer;
  }
  EXPECT_EQ(evaluate(plan, graph, small_cluster(1, 2), table).stage_times[0].optimizer,
            Picoseconds(1608));
}

TEST(EvaluateTime, TheBusiestDeviceDecidesATransfer) {
  // [1, 8, 16] fp32 = 512 bytes at 1 ps a byte, one sender to tensor 2 x replicated: it sends
  // twice. Backward each of the two has the whole gradient: the first sends 512.
  const Graph graph = small_model(1, 2);
  Plan plan = staged_plan(graph, 1, 1, Mesh{}, {0, 2, 4});
  plan.stages[1].mesh = Mesh{{1, 2, 1}};
  plan.stages[1].devices = {1, 2};
  ASSERT_TRUE(plan_violations(plan, graph).empty());
  FakeTable table = kernel_counter();
  table.transfer_ps_per_byte = 1;
  const Evaluation e = evaluate(plan, graph, small_cluster(1, 3), table);
  EXPECT_EQ(e.stage_times[0].transfer_forward, Picoseconds(1024));
  EXPECT_EQ(e.stage_times[0].transfer, Picoseconds(1024 + 512));
  EXPECT_EQ(e.traffic[0].sends, std::vector<std::int64_t>{1024});
  EXPECT_EQ(e.traffic[1].sends, (std::vector<std::int64_t>{512, 0}));
}

TEST(EvaluateTime, AnEvaluatorRemembersWithoutChangingAnything) {
  const Graph graph = small_model(2, 2, true);
  const Cluster cluster = small_cluster(1, 4);
  const FakeTable table;
  Evaluator evaluator(graph, cluster, table);
  std::vector<Plan> plans;
  for (const auto& cuts : {std::vector<int>{0, 1, 4}, {0, 2, 4}, {0, 3, 4}}) {
    for (const Mesh& mesh : {Mesh{}, Mesh{{2, 1, 1}}, Mesh{{1, 2, 1}}}) {
      for (const StateSharding sharding : {StateSharding::kNone, StateSharding::kParameters}) {
        plans.push_back(staged_plan(graph, 4, 2, mesh, cuts));
        plans.back().stages[0].chunks[0].layers[0].state_sharding = sharding;
      }
    }
  }
  for (int round = 0; round < 2; ++round) {
    for (const Plan& plan : plans) {
      const Evaluation kept = evaluator.evaluate(plan);
      const Evaluation fresh = evaluate(plan, graph, cluster, table);
      EXPECT_EQ(kept.step_time, fresh.step_time);
      EXPECT_EQ(kept.stage_memory[0].total(), fresh.stage_memory[0].total());
      EXPECT_EQ(kept.traffic[1].sends, fresh.traffic[1].sends);
    }
  }
}

}  // namespace
}  // namespace shardwise
