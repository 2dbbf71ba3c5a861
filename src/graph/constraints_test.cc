#include "graph/constraints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/errors.h"
#include "graph/block_builder.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using Polarity = Constraint::Polarity;

Constraint pin(const std::string& text) { return parse_constraint(Polarity::kPin, text, "flag"); }
Constraint forbid(const std::string& text) {
  return parse_constraint(Polarity::kForbid, text, "flag");
}

// embedding, layer.0, layer.1, head: a linear each, on [2, 4, 8].
Graph chain() {
  const BlockBuilder::Axes h{{"h", 8}};
  const BlockBuilder::Axes f{{"f", 8}};
  Graph graph;
  graph.model_type = "tiny";
  graph.microbatch = 2;
  graph.sequence = 4;
  BlockBuilder first("embedding", 2, 4);
  first.boundary_output(first.embedding("token", first.tokens(), 16, 8, 0.02));
  BlockBuilder inner("layer", 2, 4);
  const TensorIndex x = inner.boundary_input(8);
  const TensorIndex up = inner.linear("up", x, h, f, false, 0.02);
  inner.boundary_output(inner.linear("down", up, f, h, false, 0.02));
  BlockBuilder last("head", 2, 4);
  const TensorIndex y = last.boundary_input(8);
  const BlockBuilder::Axes v{{"v", 16, AxisSharding::kPadded}};
  last.cross_entropy("loss", last.linear("linear", y, h, v, false, 0.02), last.targets());
  graph.blocks = {std::move(first).build(), std::move(inner).build(), std::move(last).build()};
  graph.layers = {
      {"embedding", "", 0}, {"layer.0", "a.", 1}, {"layer.1", "b.", 1}, {"head", "", 2}};
  return graph;
}

std::string refusal(const Constraints& constraints) {
  try {
    check_constraints(constraints, chain(), "flag");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

std::string text_refusal(const std::string& text) {
  try {
    pin(text);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(ConstraintText, SaysLayersKeyAndValues) {
  const Constraint constraint = forbid("layer.[0-3]: recompute=selective|full");
  EXPECT_EQ(constraint.layers, "layer.[0-3]");
  EXPECT_EQ(constraint.key, "recompute");
  EXPECT_THAT(constraint.values, ElementsAre(1, 2));
  EXPECT_EQ(constraint.text, "forbid layer.[0-3]: recompute=selective|full");
  EXPECT_EQ(pin("tensor=4").layers, "*");
}

TEST(ConstraintText, MistakesAreNamed) {
  EXPECT_THAT(text_refusal("layer.*: tensr=4"),
              AllOf(StartsWith("flag: "), HasSubstr("tensr"), HasSubstr("tensor")));
  EXPECT_THAT(text_refusal("layer.*: tensor=0"), HasSubstr("a degree from 1 on"));
  EXPECT_THAT(text_refusal("layer.*: tensor=4x"), HasSubstr("\"4x\""));
  EXPECT_THAT(text_refusal("state=some"), HasSubstr("none, optimizer, gradients, parameters"));
  EXPECT_THAT(text_refusal("cut=after"), HasSubstr("cut=before"));
  EXPECT_THAT(text_refusal("layer.3"), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(text_refusal(": tensor=4"), HasSubstr("before the colon"));
}

TEST(LayerPattern, MatchesNamesAndNumbers) {
  EXPECT_TRUE(matches_layer("*", "head"));
  EXPECT_TRUE(matches_layer("layer.*", "layer.12"));
  EXPECT_FALSE(matches_layer("layer.*", "head"));
  EXPECT_TRUE(matches_layer("layer.?", "layer.3"));
  EXPECT_FALSE(matches_layer("layer.?", "layer.12"));
  EXPECT_TRUE(matches_layer("layer.[3-12]", "layer.12"));
  EXPECT_FALSE(matches_layer("layer.[3-12]", "layer.13"));
  EXPECT_TRUE(matches_layer("stage.[1].*", "stage.1.layer.4"));
  EXPECT_FALSE(matches_layer("layer.[3", "layer.3"));
}

TEST(CheckConstraints, UnknownPatternIsNamed) {
  EXPECT_THAT(refusal({pin("block.*: tensor=2")}),
              AllOf(HasSubstr("\"block.*\""), HasSubstr("fits none"), HasSubstr("layer.0")));
}

TEST(CheckConstraints, ContradictionNamesThePair) {
  EXPECT_THAT(refusal({pin("layer.*: tensor=2"), pin("*.1: tensor=4")}),
              AllOf(HasSubstr("\"pin layer.*: tensor=2\" and \"pin *.1: tensor=4\""),
                    HasSubstr("layer.1")));
  EXPECT_THAT(refusal({pin("tensor=2"), forbid("layer.0: tensor=2|4")}), HasSubstr("contradict"));
  EXPECT_THAT(refusal({forbid("recompute=none"), forbid("recompute=selective|full")}),
              HasSubstr("contradict"));
  EXPECT_THAT(refusal({pin("head: cut=before"), forbid("*: cut=before")}), HasSubstr("contradict"));
  EXPECT_EQ(refusal({pin("tensor=2|4"), pin("tensor=4|8"), pin("data=2")}), "");
  EXPECT_EQ(refusal({pin("layer.0: state=none"), pin("layer.1: state=optimizer")}), "");
}

TEST(CheckConstraints, PlacesMustExist) {
  EXPECT_THAT(refusal({pin("embedding: cut=before")}), HasSubstr("after the first"));
  EXPECT_THAT(refusal({pin("layer.0: boundary.3=2")}), HasSubstr("a dimension below 3"));
}

TEST(Degree, SpeaksOfOpsThatHaveTheAxis) {
  const Graph graph = chain();
  const Block& block = graph.blocks[1];
  const Mesh mesh{{1, 2, 1}};
  const auto on = [&](int op, const char* axis) {
    return AxisAssignment{
        kUnassigned,
        static_cast<std::int8_t>(axis_index(block.ops[static_cast<std::size_t>(op)], axis)),
        kUnassigned};
  };
  EXPECT_TRUE(allows_assignment(pin("tensor=2"), block.ops[0], on(0, "f"), mesh));
  EXPECT_FALSE(allows_assignment(pin("tensor=2"), block.ops[0], on(0, "s"), mesh));
  EXPECT_FALSE(allows_assignment(forbid("sequence=2"), block.ops[0], on(0, "s"), mesh));
  EXPECT_TRUE(allows_assignment(pin("experts=2"), block.ops[0], on(0, "f"), mesh));  // has none
}

TEST(Violations, NameConstraintLayerAndValue) {
  const Graph graph = chain();
  Plan plan;
  plan.batch = 2;
  plan.sequence = 4;
  plan.stages.resize(1);
  StagePlan& stage = plan.stages[0];
  stage.devices = {0};
  stage.chunks.resize(1);
  for (int layer = 0; layer < 4; ++layer) {
    LayerPlan chosen;
    chosen.op_axes.assign(graph.block_of(layer).ops.size(),
                          {kUnassigned, kUnassigned, kUnassigned});
    chosen.recompute = layer == 2 ? Recompute::kFull : Recompute::kNone;
    stage.chunks[0].layers.push_back(chosen);
  }
  EXPECT_THAT(
      constraint_violations({pin("tensor=1"), forbid("layer.0: recompute=full")}, plan, graph),
      IsEmpty());
  EXPECT_THAT(constraint_violations({forbid("layer.*: recompute=full")}, plan, graph),
              ElementsAre(AllOf(HasSubstr("layer.1"), HasSubstr("recompute full"))));
  EXPECT_THAT(constraint_violations({pin("head: cut=before")}, plan, graph),
              ElementsAre("\"pin head: cut=before\": head begins no stage"));
  EXPECT_THAT(constraint_violations({pin("layer.0: tensor=2")}, plan, graph),
              ElementsAre(HasSubstr("degree 1 in up"), HasSubstr("degree 1 in down")));
}

}  // namespace
}  // namespace shardwise
