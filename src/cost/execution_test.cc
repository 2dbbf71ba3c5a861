// What evaluate() makes of how the software runs a plan, by hand: kernels of 1000 ps each.
#include "cost/execution.h"

#include <gtest/gtest.h>

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

// Two data ranks, one stage; 3216 parameters.
StageTime data_parallel(const FakeTable& table, StateSharding sharding, int microbatches = 1) {
  const Graph graph = small_model(2, 1);
  Plan plan = staged_plan(graph, 2 * microbatches, microbatches, Mesh{{2, 1, 1}}, {0, 3});
  for (LayerPlan& layer : plan.stages[0].chunks[0].layers) {
    layer.state_sharding = sharding;
  }
  return evaluate(plan, graph, small_cluster(1, 2), table).stage_times[0];
}

TEST(Execution, AReductionShowsWhereNothingHidesIt) {
  FakeTable table = kernel_counter();
  table.collective_ps_per_byte = 1;
  table.overlap = 1;
  table.software.state = StateOverlap::kNothing;
  EXPECT_EQ(data_parallel(table, StateSharding::kNone).exposed_reduction, Picoseconds(8 * 3216));
}

TEST(Execution, StateHidesBehindAllKernelsButForAShare) {
  // Forward 9 and backward 11 kernels hide 20000 of 25728, of which a tenth shows: 5728 + 2000.
  FakeTable table = kernel_counter();
  table.collective_ps_per_byte = 1;
  table.software.state = StateOverlap::kCompute;
  table.software.exposed = 0.1;
  const StageTime time = data_parallel(table, StateSharding::kNone);
  EXPECT_EQ(time.forward + time.backward, Picoseconds(20000));
  EXPECT_EQ(time.exposed_reduction, Picoseconds(5728 + 2000));
}

TEST(Execution, GathersOfAMicrobatchHideBehindTheKernelsOfTheirLayer) {
  // Gathers of 2 bytes forward and backward and a reduction: kernels hide each layer's own.
  FakeTable table = kernel_counter();
  table.collective_latency_ps = 100;
  table.software.state = StateOverlap::kCompute;
  const StageTime hidden = data_parallel(table, StateSharding::kParameters);
  EXPECT_EQ(hidden.state_collectives, Picoseconds(0));
  table.software.exposed = 1;
  const StageTime shown = data_parallel(table, StateSharding::kParameters);
  // Ops with parameters: embedding, norm, up, down, norm, head; three collectives each.
  EXPECT_EQ(shown.state_collectives, Picoseconds(6 * 3 * 100));
}

TEST(Execution, HalfWideGradientsHalveTheirTraffic) {
  FakeTable table = kernel_counter();
  table.collective_ps_per_byte = 1;
  table.software.gradient_bytes = 2;
  EXPECT_EQ(data_parallel(table, StateSharding::kNone).exposed_reduction, Picoseconds(4 * 3216));
}

TEST(Execution, MessagesHideBehindTheKernelsOfTheirMicrobatch) {
  const Graph graph = small_model(1, 2);
  const Plan plan = staged_plan(graph, 4, 4, Mesh{}, {0, 2, 4});
  FakeTable table = kernel_counter();
  table.transfer_latency_ps = 1000;
  const auto transfer = [&] {
    return evaluate(plan, graph, small_cluster(1, 2), table).stage_times[0].transfer;
  };
  EXPECT_EQ(transfer(), Picoseconds(2000));
  table.software.overlaps_pipeline = true;
  EXPECT_EQ(transfer(), Picoseconds(0));
}

TEST(Execution, WeightGradientsFillTheBubble) {
  // p = 13 and 18: 1F1B 13 + 18 + 3 * 18 = 85; two thirds of the bubble go, then all of it.
  const Graph graph = small_model(1, 2);
  Plan plan = staged_plan(graph, 4, 4, Mesh{}, {0, 2, 4});
  const FakeTable table = kernel_counter();
  const auto step = [&](Schedule schedule) {
    plan.schedule = schedule;
    return evaluate(plan, graph, small_cluster(1, 2), table).step_time;
  };
  EXPECT_EQ(step(Schedule::k1F1B), Picoseconds(85000));
  EXPECT_EQ(step(Schedule::kZeroBubble1P), Picoseconds(4 * 18000 + 13000 / 3));
  EXPECT_EQ(step(Schedule::kZeroBubble2P), Picoseconds(4 * 18000));
}

TEST(Execution, PricesFollowChangedCosts) {
  const Graph graph = small_model(1, 2);
  const Plan plan = staged_plan(graph, 4, 4, Mesh{}, {0, 2, 4});
  const Cluster cluster = small_cluster(1, 2);
  FakeTable table = kernel_counter();
  Evaluator evaluator(graph, cluster, table);
  const Picoseconds before = evaluator.evaluate(plan).step_time;
  table.op_launch_ps = 2000;
  table.transfer_latency_ps = 500;
  EXPECT_EQ(evaluator.evaluate(plan).step_time, before);
  evaluator.price_again();
  EXPECT_EQ(evaluator.evaluate(plan).step_time, evaluate(plan, graph, cluster, table).step_time);
}

}  // namespace
}  // namespace shardwise
