#include "cost/uniform_run.h"

#include <gtest/gtest.h>

#include "cost/device_preset.h"
#include "cost/uniform_memory.h"

namespace shardwise {
namespace {

UniformRun small_run() {
  UniformRun run;
  run.shape.layers = 24;
  run.shape.hidden = 2048;
  run.shape.heads = run.shape.key_value_heads = 16;
  run.shape.head_width = 128;
  run.shape.feed_forward = 8192;
  run.shape.vocabulary = 51200;
  run.sequence = 2048;
  run.microbatches = 8;
  return run;
}

Cluster nodes(int count) { return cluster_of(find_node("dgx-a100").value(), count, "test"); }

TEST(DecoderShape, CountsParametersByHand) {
  // A layer: 4 h^2 + 8 h^2; 24 of them and one table.
  EXPECT_DOUBLE_EQ(small_run().shape.parameters(), 24 * 12 * 2048.0 * 2048 + 51200 * 2048.0);
}

TEST(UniformRun, OneStageHasNoBubble) {
  EXPECT_EQ(estimate_uniform_run(small_run(), nodes(1)).bubble, 0);
}

TEST(UniformRun, ChunksDivideTheBubble) {
  UniformRun run = small_run();
  run.pipeline = 4;
  run.schedule = RunSchedule::kInterleaved;
  // Messages grow with the chunks; without them the bubble is (p - 1) / v stages.
  ModelConstants constants;
  constants.network_share = 1e6;
  constants.node_share = 1e6;
  constants.node_latency = 0;
  run.chunks = 1;
  const double whole = estimate_uniform_run(run, nodes(1), constants).bubble;
  run.chunks = 2;
  EXPECT_NEAR(estimate_uniform_run(run, nodes(1), constants).bubble, whole / 2, 1e-6 * whole);
}

TEST(UniformRun, FullRecomputationAddsAForward) {
  UniformRun run = small_run();
  const double none = estimate_uniform_run(run, nodes(1)).steady;
  run.recompute = Recompute::kFull;
  const double full = estimate_uniform_run(run, nodes(1)).steady;
  EXPECT_GT(full, 1.2 * none);
  EXPECT_LT(full, 1.4 * none);
}

TEST(UniformRun, FewerBytesPerNumberAreFaster) {
  UniformRun run = small_run();
  const Cluster cluster = cluster_of(find_node("dgx-b200").value(), 1, "test");
  const double half = estimate_uniform_run(run, cluster).steady;
  run.software.format = MatrixFormat::kFloat8;
  EXPECT_LT(estimate_uniform_run(run, cluster).steady, half);
}

TEST(UniformMemory, ShardingAndRecomputationNeverNeedMore) {
  UniformRun run = small_run();
  run.data = 8;
  double before = 1e30;
  for (run.zero = 0; run.zero <= 2; ++run.zero) {
    const double states = estimate_uniform_memory(run, nodes(1)).states;
    EXPECT_LT(states, before);
    before = states;
  }
  run.zero = 1;
  const double none = estimate_uniform_memory(run, nodes(1)).total();
  run.recompute = Recompute::kFull;
  EXPECT_LT(estimate_uniform_memory(run, nodes(1)).total(), none);
}

TEST(UniformMemory, StatesAreEighteenBytesAParameterAtMost) {
  // bf16 weight 2, fp32 gradient 4, master copy and moments 12 (Rajbhandari et al., section 3.1,
  // with fp32 gradients).
  const UniformRun run = small_run();
  EXPECT_DOUBLE_EQ(estimate_uniform_memory(run, nodes(1)).states, 18 * run.shape.parameters());
}

TEST(DevicePreset, EveryNodeHasItsDeviceAndUnknownNamesHaveNone) {
  for (const std::string& name : node_names()) {
    EXPECT_TRUE(find_device(find_node(name)->device).has_value()) << name;
  }
  EXPECT_FALSE(find_device("h100-sxm-81gb").has_value());
  EXPECT_EQ(find_device("A100")->name, "a100-sxm-80gb");
}

}  // namespace
}  // namespace shardwise
