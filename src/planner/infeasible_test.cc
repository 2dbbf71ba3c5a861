#include <gtest/gtest.h>

#include "cost/fake_table.h"
#include "planner/planner.h"
#include "planner/tiny_models_testing.h"

namespace shardwise {
namespace {

struct Case {
  PlanRequest request;
  Cluster cluster;
  FakeTable table;
};

Case tiny_case(std::int64_t memory) {
  Case instance;
  instance.request.graph = [](std::int64_t microbatch) {
    testing::TinyModel model = testing::tiny_llama();
    model.microbatch = microbatch;
    model.decoder_layers = 1;
    return testing::tiny_graph(model);
  };
  instance.request.batch = 4;
  instance.request.sequence = 16;
  instance.request.free_axes = 0;
  instance.cluster.types.resize(1);
  instance.cluster.types[0].memory = Bytes(memory);
  instance.cluster.groups = {{0, 2}};
  instance.cluster.levels = {{"node", 2, {}, {}}};
  return instance;
}

TEST(Infeasible, TheMissingMemoryIsTheLeast) {
  Case instance = tiny_case(50'000);
  instance.request.explanation_limit = Seconds(1e9);
  const PlanResult found = find_plan(instance.request, instance.cluster, instance.table);
  ASSERT_EQ(found.stop_reason, StopReason::kInfeasible);
  ASSERT_TRUE(found.infeasibility.has_value());
  const Infeasibility& why = *found.infeasibility;
  EXPECT_TRUE(why.is_least);
  EXPECT_EQ(why.memory.total() - why.memory.limit, why.extra_memory);
  const auto has_plan = [&](std::int64_t extra) {
    Case larger = tiny_case(50'000 + extra);
    larger.request.runner_ups = RunnerUps::kSkip;
    return find_plan(larger.request, larger.cluster, larger.table).plan.has_value();
  };
  EXPECT_TRUE(has_plan(why.extra_memory.count));
  EXPECT_FALSE(has_plan(why.extra_memory.count - 1 - 50'000 / 4096));
}

TEST(Infeasible, NoMemoryHelpsWithoutASpace) {
  Case instance = tiny_case(50'000);
  instance.request.schedules = {Schedule::kInterleaved};
  instance.request.microbatch_counts = {1};
  const PlanResult found = find_plan(instance.request, instance.cluster, instance.table);
  EXPECT_EQ(found.stop_reason, StopReason::kInfeasible);
  EXPECT_FALSE(found.infeasibility.has_value());
}

}  // namespace
}  // namespace shardwise
