#include "graph/tied.h"

#include <gtest/gtest.h>

#include "graph/block_builder.h"

namespace shardwise {
namespace {

// Embedding [6, 4] and a head that shares its table; on `stages` stages of two devices.
struct Tied {
  Graph graph;
  Plan plan;

  Tied(int stages, const Mesh& mesh) {
    const BlockBuilder::Axes h{{"h", 4, AxisSharding::kEven}};
    const BlockBuilder::Axes v{{"v", 6, AxisSharding::kPadded}};
    graph.microbatch = 2;
    graph.sequence = 3;
    BlockBuilder first("embedding", 2, 3);
    first.boundary_output(first.embedding("tokens", first.tokens(), 6, 4, 0.02));
    graph.blocks.push_back(std::move(first).build());
    BlockBuilder last("head", 2, 3);
    const TensorIndex x = last.boundary_input(4);
    last.cross_entropy("loss", last.linear("head", x, h, v, false, 0.02), last.targets());
    graph.blocks.push_back(std::move(last).build());
    graph.layers = {{"embedding", "embedding.", 0}, {"head", "head.", 1}};
    graph.tied = {{0,
                   graph.blocks[0].ops[0].parameters[0].tensor,
                   1,
                   graph.blocks[1].ops[0].parameters[0].tensor}};
    plan.batch = 2;
    plan.sequence = 3;
    for (int s = 0; s < stages; ++s) {
      StagePlan stage;
      stage.mesh = mesh;
      stage.devices = {2 * s, 2 * s + 1};
      plan.stages.push_back(stage);
    }
    for (int layer = 0; layer < 2; ++layer) {
      StagePlan& stage = plan.stages[static_cast<std::size_t>(stages == 1 ? 0 : layer)];
      if (stage.chunks.empty()) {
        stage.chunks.emplace_back();
        stage.chunks[0].first_layer = layer;
      }
      LayerPlan layer_plan;
      layer_plan.op_axes.assign(graph.block_of(layer).ops.size(),
                                {kUnassigned, kUnassigned, kUnassigned});
      stage.chunks[0].layers.push_back(layer_plan);
    }
  }

  LayerPlan& layer(int index) {
    const LayerPlace place = place_of(plan, index);
    return plan.stages[static_cast<std::size_t>(place.stage)]
        .chunks[0]
        .layers[static_cast<std::size_t>(place.index)];
  }
  void assign(int layer_index, std::size_t op, const std::string& name) {
    const Op& assigned = graph.block_of(layer_index).ops[op];
    layer(layer_index).op_axes[op][1] = static_cast<std::int8_t>(axis_index(assigned, name));
  }
  const TiedParameter& tied() const { return graph.tied[0]; }
};

const Mesh kTensor2{{1, 2, 1}};

TEST(Tied, EqualLayoutsOnOneStageShare) {
  Tied model(1, kTensor2);
  EXPECT_EQ(tied_mode(model.graph, model.plan, model.tied()), TiedMode::kShared);
  model.assign(0, 0, "v");
  model.assign(1, 0, "v");
  model.assign(1, 1, "v");
  EXPECT_EQ(tied_mode(model.graph, model.plan, model.tied()), TiedMode::kShared);
  EXPECT_TRUE(tied_messages(model.graph, model.plan, model.tied()).gradients.empty());
}

TEST(Tied, DifferentLayoutsGradientsOrShardingExchange) {
  Tied layouts(1, kTensor2);
  layouts.assign(0, 0, "v");
  EXPECT_EQ(tied_mode(layouts.graph, layouts.plan, layouts.tied()), TiedMode::kExchanged);
  // Both tables are whole, but the head's gradient is partial over its half of the sequences.
  Tied gradients(1, kTensor2);
  gradients.assign(1, 0, "b");
  EXPECT_EQ(tied_mode(gradients.graph, gradients.plan, gradients.tied()), TiedMode::kExchanged);
  Tied sharding(1, kTensor2);
  sharding.layer(0).state_sharding = StateSharding::kOptimizer;
  EXPECT_EQ(tied_mode(sharding.graph, sharding.plan, sharding.tied()), TiedMode::kExchanged);
}

TEST(Tied, TwoStagesExchangeByBoxes) {
  // Owner halves v over devices 0, 1; alias whole on 2, 3: values go 0 -> 2, 1 -> 2, 0 -> 3, 1 ->
  // 3; each half of the gradient comes from another replica.
  Tied model(2, kTensor2);
  model.assign(0, 0, "v");
  const TiedMessages messages = tied_messages(model.graph, model.plan, model.tied());
  const Box top{{0, 0}, {3, 4}};
  const Box bottom{{3, 0}, {6, 4}};
  EXPECT_EQ(messages.parameters,
            (std::vector<RedistributionMessage>{
                {0, 2, top}, {1, 2, bottom}, {0, 3, top}, {1, 3, bottom}}));
  EXPECT_EQ(messages.gradients, (std::vector<RedistributionMessage>{{2, 0, top}, {3, 1, bottom}}));
}

TEST(Tied, AnExchangedAliasShardsNothingAndItsOwnerKeepsWholeWeights) {
  Tied model(2, kTensor2);
  model.layer(0).state_sharding = StateSharding::kParameters;
  model.layer(1).state_sharding = StateSharding::kParameters;
  const ParameterPlace owner = owner_of(model.graph, model.tied());
  const ParameterPlace alias = alias_of(model.graph, model.tied());
  EXPECT_EQ(parameter_state_sharding(model.graph, model.plan, owner), StateSharding::kGradients);
  EXPECT_EQ(parameter_state_sharding(model.graph, model.plan, alias), StateSharding::kNone);
  EXPECT_EQ(tied_as_owner(model.graph, owner), &model.graph.tied[0]);
  EXPECT_EQ(tied_as_alias(model.graph, owner), nullptr);
  EXPECT_EQ(tied_as_alias(model.graph, alias), &model.graph.tied[0]);
}

}  // namespace
}  // namespace shardwise
