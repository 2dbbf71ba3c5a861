#include "graph/layer_body.h"

#include <gtest/gtest.h>

#include "graph/block_builder.h"

namespace shardwise {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::int64_t kBatch = 2;
constexpr std::int64_t kSequence = 8;
constexpr std::int64_t kWidth = 16;

// Pre-norm attention-free half block: h + down(act(up(norm(h)))).
Block half_block() {
  const BlockBuilder::Axes h{{"h", kWidth, AxisSharding::kEven}};
  const BlockBuilder::Axes f{{"f", 4 * kWidth, AxisSharding::kEven}};
  BlockBuilder build("half", kBatch, kSequence);
  const TensorIndex x = build.boundary_input(kWidth);
  TensorIndex y = build.layer_norm("norm", x, 1e-5);
  y = build.linear("up", y, h, f, true, 0.02);
  y = build.activation("act", y, "gelu");
  y = build.linear("down", y, f, h, true, 0.02);
  build.boundary_output(build.add("residual", x, y));
  return std::move(build).build();
}

const Mesh kTensor2{{1, 2, 1}};

std::int8_t axis(const Op& op, const std::string& name) {
  return static_cast<std::int8_t>(axis_index(op, name));
}

// Megatron's assignment on free axis 1; `norm_axis` "s" with sequence parallelism, "" without.
LayerPlan megatron_plan(const Block& block, const std::string& norm_axis) {
  LayerPlan plan;
  for (const Op& op : block.ops) {
    AxisAssignment assignment{kUnassigned, kUnassigned, kUnassigned};
    if (op.name == "up" || op.name == "act" || op.name == "down") {
      assignment[1] = axis(op, "f");
    } else if (!norm_axis.empty()) {
      assignment[1] = axis(op, norm_axis);
    }
    plan.op_axes.push_back(assignment);
  }
  if (!norm_axis.empty()) {
    plan.input_layout[1] = AxisLayout::shard(1);
  }
  return plan;
}

std::vector<CollectiveKind> collectives(const std::vector<LayerStep>& steps) {
  std::vector<CollectiveKind> kinds;
  for (const LayerStep& step : steps) {
    if (step.kind == LayerStep::Kind::kCollective) {
      kinds.push_back(step.collective.kind);
    }
  }
  return kinds;
}

TEST(LayerBody, MegatronsHalfBlockReducesOnceForwardAndOnceBackward) {
  const Block block = half_block();
  const LayerBody body =
      make_layer_body(block, megatron_plan(block, ""), kTensor2, Layout{}, Precision::kFloat32);
  EXPECT_EQ(collectives(body.forward), std::vector{CollectiveKind::kAllReduce});
  EXPECT_EQ(collectives(body.backward), std::vector{CollectiveKind::kAllReduce});
}

TEST(LayerBody, SequenceParallelismTurnsReductionsIntoGatherAndScatter) {
  const Block block = half_block();
  const LayerPlan plan = megatron_plan(block, "s");
  const LayerBody body =
      make_layer_body(block, plan, kTensor2, plan.input_layout, Precision::kFloat32);
  const std::vector both{CollectiveKind::kAllGather, CollectiveKind::kReduceScatter};
  EXPECT_EQ(collectives(body.forward), both);
  EXPECT_EQ(collectives(body.backward), both);
}

TEST(LayerBody, WithoutMeshNothingTalks) {
  const Block block = half_block();
  const LayerBody body =
      make_layer_body(block, megatron_plan(block, ""), Mesh{}, Layout{}, Precision::kFloat32);
  EXPECT_TRUE(collectives(body.forward).empty());
  EXPECT_TRUE(collectives(body.backward).empty());
}

TEST(LayerBody, KeepsInputsOfEveryKernelThatNeedsThem) {
  // One rank: h [2 8 16] (norm), its mean and rstd [2 8], norm output (up), up output (act),
  // act output (down), in fp32: (256 + 2*16 + 256 + 1024 + 1024) * 4 bytes.
  const Block block = half_block();
  const LayerBody body = make_layer_body(
      block,
      LayerPlan{
          std::vector<AxisAssignment>(block.ops.size(), {kUnassigned, kUnassigned, kUnassigned}),
          {},
          StateSharding::kNone,
          Recompute::kNone},
      Mesh{},
      Layout{},
      Precision::kFloat32);
  EXPECT_EQ(body.saved_bytes(), Bytes((256 + 32 + 256 + 1024 + 1024) * 4));
  EXPECT_TRUE(body.recompute.empty());
}

TEST(LayerBody, FullRecomputationKeepsOnlyTheInput) {
  const Block block = half_block();
  LayerPlan plan = megatron_plan(block, "");
  plan.recompute = Recompute::kFull;
  const LayerBody body = make_layer_body(block, plan, kTensor2, Layout{}, Precision::kFloat32);
  EXPECT_EQ(body.saved, std::vector{body.input});
  // norm, up and act run again; down's result is not needed, so its reduction does not.
  EXPECT_EQ(body.recompute.size(), 3U);
}

TEST(LayerBody, SelectiveRecomputationDropsCheapResults) {
  // Kept: h (256) and up's result (1024); norm with its statistics and act run again.
  const Block block = half_block();
  LayerPlan plan = megatron_plan(block, "");
  plan.recompute = Recompute::kSelective;
  const LayerBody body = make_layer_body(block, plan, Mesh{}, Layout{}, Precision::kFloat32);
  EXPECT_EQ(body.saved_bytes(), Bytes((256 + 1024) * 4));
  EXPECT_EQ(body.recompute.size(), 2U);
}

TEST(LayerBody, EveryValueIsWrittenOnceBeforeItIsRead) {
  const Block block = half_block();
  for (const Recompute mode : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    LayerPlan plan = megatron_plan(block, "s");
    plan.recompute = mode;
    const LayerBody body =
        make_layer_body(block, plan, kTensor2, plan.input_layout, Precision::kFloat32);
    std::vector<int> writes(body.values.size(), 0);
    writes[at(body.input)] = 1;
    writes[at(body.output_gradient)] = 1;
    for (const auto* steps : {&body.forward, &body.recompute, &body.backward}) {
      for (const LayerStep& step : *steps) {
        for (const ValueId value : step.reads) {
          EXPECT_EQ(writes[at(value)], 1);
        }
        for (const ValueId value : step.writes) {
          EXPECT_EQ(++writes[at(value)], 1);
        }
      }
    }
  }
}

TEST(LayerBody, ContextParallelAttentionGathersKeysAndValues) {
  const BlockBuilder::Axes h{{"h", kWidth, AxisSharding::kEven}};
  const LoopAxis n{"n", 2, AxisSharding::kEven};
  const LoopAxis r{"r", 2, AxisSharding::kEven};
  const LoopAxis d{"d", 4, AxisSharding::kNever};
  BlockBuilder build("attention", kBatch, kSequence);
  const TensorIndex x = build.boundary_input(kWidth);
  const TensorIndex q = build.linear("q", x, h, {n, r, d}, false, 0.02);
  const TensorIndex k = build.linear("k", x, h, {n, d}, false, 0.02);
  const TensorIndex v = build.linear("v", x, h, {n, d}, false, 0.02);
  const TensorIndex y = build.attention("attention", q, k, v, {.scale = 0.5});
  build.boundary_output(build.linear("o", y, {n, r, d}, h, false, 0.02));
  const Block block = std::move(build).build();
  LayerPlan plan;
  for (const Op& op : block.ops) {
    plan.op_axes.push_back({kUnassigned, axis(op, "s"), kUnassigned});
  }
  plan.input_layout[1] = AxisLayout::shard(1);
  const LayerBody body =
      make_layer_body(block, plan, kTensor2, plan.input_layout, Precision::kFloat32);
  EXPECT_EQ(collectives(body.forward),
            (std::vector{CollectiveKind::kAllGather, CollectiveKind::kAllGather}));
  EXPECT_EQ(collectives(body.backward),
            (std::vector{CollectiveKind::kReduceScatter, CollectiveKind::kReduceScatter}));
}

TEST(ParameterPlacement, DataAndSequenceShardsLeavePartialWeightGradients) {
  const Block block = half_block();
  const Op& norm = block.ops[0];
  const Mesh mesh{{2, 2, 1}};
  const AxisAssignment assignment{axis(norm, "b"), axis(norm, "s"), kUnassigned};
  const ParameterPlacement placement =
      parameter_placement(norm, norm.parameters[0], assignment, mesh);
  EXPECT_EQ(placement.reduction_degree, 4);
  EXPECT_EQ(placement.layout, Layout{});
}

TEST(ParameterPlacement, RowParallelBiasHasItsWholeGradientEverywhere) {
  const Block block = half_block();
  const Op& down = block.ops[3];
  const AxisAssignment assignment{kUnassigned, axis(down, "f"), kUnassigned};
  EXPECT_EQ(parameter_placement(down, down.parameters[1], assignment, kTensor2).reduction_degree,
            1);
}

}  // namespace
}  // namespace shardwise
