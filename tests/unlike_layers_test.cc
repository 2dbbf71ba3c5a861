// Models whose decoder layers differ, in the whole space: encoder and decoder, alternating windows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "cost/modelled_table.h"
#include "models/model.h"
#include "models/model_testing.h"
#include "planner/planner.h"

namespace shardwise {
namespace {

constexpr std::int64_t kSequence = 32;

Cluster four_devices(std::int64_t memory) {
  Cluster cluster;
  cluster.name = "machine";
  DeviceType type;
  type.name = "device";
  type.memory = Bytes(memory);
  type.peak_fp32 = FlopsPerSecond(1e9);
  type.peak_bf16 = FlopsPerSecond(2e9);
  type.memory_bandwidth = BytesPerSecond(1e10);
  cluster.types = {type};
  cluster.groups = {{0, 4}};
  cluster.levels = {{"node", 4, BytesPerSecond(1e8), Seconds(1e-6)}};
  return cluster;
}

PlanRequest request_of(const ModelConfig& model) {
  PlanRequest request;
  request.graph = [model](std::int64_t microbatch) {
    return build_graph(model, microbatch, kSequence);
  };
  request.batch = 8;
  request.sequence = kSequence;
  request.free_axes = 1;
  request.runner_ups = RunnerUps::kSkip;
  return request;
}

ModelConfig deep(const std::string& type) {
  return type == "t5" ? parse_tiny("t5", R"("num_layers": 4)")
                      : parse_tiny(type, R"("num_hidden_layers": 8, "sliding_window": 8)");
}

// Interleaved uniform grids lie in the space although their chunks differ, so that no uniform grid
// is ever faster than the optimum; and the plan is what `evaluate` says it is.
TEST(UnlikeLayers, NoUniformGridIsFaster) {
  int interleaved = 0;
  for (const std::string type : {"t5", "gemma2"}) {
    const PlanRequest request = request_of(deep(type));
    for (const std::int64_t memory : {1'500'000, 3'000'000, 100'000'000}) {
      SCOPED_TRACE(type + " " + std::to_string(memory));
      const Cluster cluster = four_devices(memory);
      const ModelledTable table(cluster);
      for (const bool only_interleaved : {false, true}) {
        PlanRequest allowed = request;
        if (only_interleaved) {
          allowed.schedules = {Schedule::kInterleaved};
        }
        const PlanResult found = find_plan(allowed, cluster, table);
        const PlanResult grid = find_megatron_plan(allowed, cluster, table);
        if (!found.plan) {
          EXPECT_EQ(found.stop_reason, StopReason::kInfeasible);
          EXPECT_FALSE(grid.plan.has_value());
          continue;
        }
        EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
        EXPECT_EQ(found.lower_bound, found.step_time);
        EXPECT_THAT(found.space, ::testing::HasSubstr("uniform grids"));
        const Evaluation evaluation =
            evaluate(*found.plan, request.graph(found.plan->microbatch()), cluster, table);
        EXPECT_EQ(evaluation.step_time, found.step_time);
        EXPECT_TRUE(evaluation.fits());
        if (grid.plan) {
          EXPECT_LE(found.step_time, grid.step_time);
        }
        interleaved += found.plan->schedule == Schedule::kInterleaved ? 1 : 0;
      }
    }
  }
  EXPECT_GE(interleaved, 2);
}

// Encoder and decoder end up in stages of their own sizes, and every boundary carries both.
TEST(UnlikeLayers, EncoderAndDecoderArePlannedAsOnePipeline) {
  PlanRequest request = request_of(deep("t5"));
  request.schedules = {Schedule::k1F1B};
  request.limits.max_stage_devices = 1;
  const Cluster cluster = four_devices(100'000'000);
  const ModelledTable table(cluster);
  const PlanResult found = find_plan(request, cluster, table);
  ASSERT_TRUE(found.plan.has_value());
  EXPECT_GE(found.plan->num_stages(), 2);
  const Evaluation evaluation =
      evaluate(*found.plan, request.graph(found.plan->microbatch()), cluster, table);
  // fp32 pairs [b, s, 2, h] forward from every stage but the last: 2 x 32 x 32 elements each.
  const std::int64_t pair = request.batch * kSequence * 2 * 32 * 4;
  EXPECT_GE(evaluation.traffic[0].sends[0], pair);
}

}  // namespace
}  // namespace shardwise
