// Every method on the same random small requests: its plan is one that the request allows, costs
// what evaluate() says, and never beats find_plan, whose space holds it.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "cost/fake_table.h"
#include "planner/methods/registry.h"
#include "planner/tiny_models_testing.h"

namespace shardwise {
namespace {

struct Case {
  PlanRequest request;
  Cluster cluster;
  FakeTable table;
};

// Decoders with and without gates, experts and tied embeddings; one or two nodes, one type; memory
// from far too little to plenty.
Case random_case(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  testing::TinyModel model = pick(0, 2) == 0   ? testing::tiny_gpt2()
                             : pick(0, 1) == 0 ? testing::tiny_llama()
                                               : testing::tiny_mixtral();
  model.sequence = 4 * pick(1, 2);
  model.decoder_layers = pick(1, 3);
  model.tied = pick(0, 3) == 0;
  Case instance;
  PlanRequest& request = instance.request;
  request.graph = [model](std::int64_t microbatch) {
    testing::TinyModel sized = model;
    sized.microbatch = microbatch;
    return testing::tiny_graph(sized);
  };
  request.batch = pick(1, 2) * 2;
  request.sequence = model.sequence;
  request.free_axes = pick(0, 1);
  request.runner_ups = RunnerUps::kSkip;
  request.threads = 1;
  if (pick(0, 2) == 0) {
    request.schedules = {pick(0, 1) == 0 ? Schedule::kGpipe : Schedule::k1F1B};
  }
  if (pick(0, 3) == 0) {
    request.limits.recomputes = {pick(0, 1) == 0 ? Recompute::kNone : Recompute::kFull};
  }
  if (pick(0, 3) == 0) {
    request.limits.state_shardings = {StateSharding::kNone, StateSharding::kGradients};
  }
  if (pick(0, 3) == 0) {
    request.limits.max_stages = pick(1, 2);
  }
  instance.cluster.types.resize(1);
  instance.cluster.types[0].memory =
      Bytes(pick(0, 3) == 0 ? std::int64_t{1} << 40 : 1000 * pick(60, 700));
  const int nodes = pick(1, 2);
  instance.cluster.groups = {{0, 2 * nodes}};
  // What methods read off the cluster; the table's times are of another world.
  instance.cluster.levels = {{"node", 2, BytesPerSecond(2e11), Seconds(1e-9)},
                             {"network", nodes, BytesPerSecond(1e11), Seconds(2e-9)}};
  FakeTable& table = instance.table;
  table.op_launch_ps = pick(0, 2000);
  table.collective_latency_ps = pick(0, 2000);
  table.collective_ps_per_byte = pick(0, 30);
  table.transfer_latency_ps = pick(0, 2000);
  table.transfer_ps_per_byte = pick(0, 30);
  table.optimizer_ps_per_element = pick(0, 3);
  table.overlap = 0.25 * pick(0, 3);
  return instance;
}

template <typename Value>
bool has(const std::vector<Value>& allowed, Value value) {
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

// Spelled out from PlanRequest's own words.
void expect_allowed(const Plan& plan, const PlanRequest& request) {
  EXPECT_TRUE(has(request.schedules, plan.schedule));
  EXPECT_TRUE(request.limits.max_stages == 0 || plan.num_stages() <= request.limits.max_stages);
  for (const StagePlan& stage : plan.stages) {
    EXPECT_LE(stage.mesh.sizes[1] > 1 ? 1 : 0, request.free_axes);
    EXPECT_EQ(stage.mesh.sizes[2], 1);
    for (const ChunkPlan& chunk : stage.chunks) {
      for (const LayerPlan& layer : chunk.layers) {
        EXPECT_TRUE(has(request.limits.recomputes, layer.recompute));
        EXPECT_TRUE(has(request.limits.state_shardings, layer.state_sharding));
      }
    }
  }
}

TEST(Methods, NoneBeatsOursOnRandomRequests) {
  std::map<std::string, int> plans;
  std::map<std::string, int> slower;
  int infeasible = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    const Case instance = random_case(seed);
    const PlanResult ours = find_plan(instance.request, instance.cluster, instance.table);
    ASSERT_TRUE(ours.stop_reason == StopReason::kOptimal ||
                ours.stop_reason == StopReason::kInfeasible);
    infeasible += ours.plan ? 0 : 1;
    for (const PlanningMethod& method : planning_methods()) {
      SCOPED_TRACE(::testing::Message() << method.name << ", seed " << seed);
      const PlanResult found = method.find(instance.request, instance.cluster, instance.table);
      ASSERT_EQ(found.plan.has_value(), found.stop_reason == StopReason::kOptimal);
      if (!found.plan) {
        continue;
      }
      ++plans[method.name];
      const Graph graph = instance.request.graph(found.plan->microbatch());
      ASSERT_TRUE(plan_violations(*found.plan, graph).empty());
      const Evaluation account = evaluate(*found.plan, graph, instance.cluster, instance.table);
      EXPECT_TRUE(account.fits());
      EXPECT_EQ(account.step_time, found.step_time);
      expect_allowed(*found.plan, instance.request);
      ASSERT_TRUE(ours.plan.has_value()) << "a plan where none fits";
      EXPECT_GE(found.step_time, ours.step_time);
      slower[method.name] += found.step_time > ours.step_time ? 1 : 0;
    }
  }
  // The comparison has something to compare.
  EXPECT_GE(infeasible, 2);
  for (const PlanningMethod& method : planning_methods()) {
    SCOPED_TRACE(method.name);
    EXPECT_GE(plans[method.name], 5);
    if (method.name != "shardwise") {
      EXPECT_GE(slower[method.name], 1);
    }
  }
}

}  // namespace
}  // namespace shardwise
