#include "io/plan_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "files/json_writer.h"
#include "files/temporary_folder.h"
#include "io/cluster_json.h"
#include "io/cluster_preset.h"
#include "io/tiny_model_testing.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Layers with the named axis on the data mesh axis in every op, and no other sharding.
LayerPlan sharded_layer(const Block& block, bool by_data) {
  LayerPlan layer;
  for (const Op& op : block.ops) {
    const int b = by_data ? axis_index(op, "b") : kUnassigned;
    layer.op_axes.push_back({static_cast<std::int8_t>(b), kUnassigned, kUnassigned});
  }
  if (by_data) {
    layer.input_layout[kDataAxis] = AxisLayout::shard(0);
  }
  return layer;
}

// Stage 0: data 2 over embedding and both layers; stage 1: the head on device 2; the fourth idles.
struct Example {
  Example() {
    const JsonValue model = parse_json(R"({"width": 8})", "config.json");
    graph = tiny_model_graph(model, "tiny", {4, 16});
    file.model_json = R"({"width": 8})";
    file.model_type = "tiny";
    file.cluster = with_costs(local_cluster(4), std::nullopt);
    Plan& plan = file.plan;
    plan.batch = 8;
    plan.sequence = 16;
    plan.num_microbatches = 2;
    StagePlan first;
    first.devices = {0, 1};
    first.mesh.sizes = {2, 1, 1};
    first.chunks.resize(1);
    for (int layer = 0; layer < 3; ++layer) {
      first.chunks[0].layers.push_back(sharded_layer(graph.block_of(layer), true));
    }
    first.chunks[0].layers[0].input_layout = {};
    first.chunks[0].layers[2].state_sharding = StateSharding::kOptimizer;
    first.chunks[0].layers[2].recompute = Recompute::kFull;
    first.chunks[0].output_layout[kDataAxis] = AxisLayout::shard(0);
    StagePlan second;
    second.devices = {2};
    second.chunks.resize(1);
    second.chunks[0].first_layer = 3;
    second.chunks[0].layers.push_back(sharded_layer(graph.blocks[2], false));
    plan.stages = {first, second};
    file.prediction = {"shardwise",
                       "optimal",
                       Picoseconds(123456789012345),
                       Picoseconds(123456789012344),
                       {Bytes(1000), Bytes(2000)},
                       "all plans",
                       0.01,
                       {{1, Picoseconds(123)}, {2, Picoseconds(456)}}};
  }

  std::string text() const { return to_json_text(plan_file_to_json(file, graph)); }

  PlanFile file;
  Graph graph;
};

PlanFile parse(const std::string& text) {
  return parse_plan_file(text, "plan.json", tiny_model_graph);
}

// The message for the example's text with the first `from` replaced by `to`.
std::string refusal(const std::string& from, const std::string& to) {
  std::string text = Example().text();
  const std::size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from << " is not in\n" << text;
  text.replace(place, from.size(), to);
  try {
    parse(text);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(PlanFile, RoundTripIsExact) {
  const Example example;
  ASSERT_EQ(plan_violations(example.file.plan, example.graph), std::vector<std::string>());
  const PlanFile read = parse(example.text());
  EXPECT_EQ(read.plan, example.file.plan);
  EXPECT_EQ(read.prediction, example.file.prediction);
  EXPECT_EQ(read.model_type, "tiny");
  EXPECT_EQ(cluster_to_json(read.cluster.cluster), cluster_to_json(example.file.cluster.cluster));
  EXPECT_FALSE(read.cluster.table.has_value());
  EXPECT_EQ(to_json_text(plan_file_to_json(read, example.graph)), example.text());
}

TEST(PlanFile, MeasuredTableTravelsAlong) {
  Example example;
  MeasuredTable table;
  table.machine = "a machine";
  table.date = "2026-11-22";
  table.overlap_fraction = {0.5};
  table.accumulate = {{Bytes(8), 0, Seconds(1.0 / 3), 0.25}};
  example.file.cluster = with_costs(local_cluster(4), table);
  EXPECT_EQ(parse(example.text()).cluster.table, table);
}

TEST(PlanFile, HandMadePlanHasNoBound) {
  Example example;
  example.file.prediction.lower_bound.reset();
  example.file.prediction.stop_reason.clear();
  EXPECT_EQ(parse(example.text()).prediction, example.file.prediction);
}

TEST(PlanFile, FilesAreReadAndWritten) {
  const Example example;
  const TemporaryFolder folder;
  write_plan_file(folder.path() / "plan.json", example.file, example.graph);
  EXPECT_EQ(read_plan_file(folder.path() / "plan.json", tiny_model_graph).plan, example.file.plan);
  EXPECT_THROW(read_plan_file(folder.path() / "missing.json", tiny_model_graph), InputError);
}

TEST(PlanFile, OtherDocumentsAreRefused) {
  EXPECT_THAT(refusal("shardwise-plan", "shardwise-profile"),
              AllOf(StartsWith("plan.json:2: key 'format'"), HasSubstr("shardwise plan -o")));
  EXPECT_THAT(refusal("\"version\": 1", "\"version\": 2"), HasSubstr("key 'version'"));
  EXPECT_THROW(parse("[]"), InputError);
  EXPECT_THROW(parse(Example().text().substr(0, 300)), InputError);
}

TEST(PlanFile, MissingAndUnknownKeysAreNamed) {
  EXPECT_THAT(refusal("\"prediction\"", "\"predictions\""), HasSubstr("'predictions'"));
  EXPECT_THAT(refusal("\"num_microbatches\": 2,", ""), HasSubstr("'num_microbatches'"));
  EXPECT_THAT(refusal("\"recompute\": \"none\",", ""), HasSubstr("'recompute'"));
  EXPECT_THAT(refusal("\"up\": [\"b\", \"-\", \"-\"],", ""), HasSubstr("'up'"));
}

TEST(PlanFile, ValuesOfAPlanAreChecked) {
  EXPECT_THAT(refusal("\"batch\": 8", "\"batch\": 7"),
              AllOf(HasSubstr("key 'plan.num_microbatches'"), HasSubstr("divisor")));
  EXPECT_THAT(refusal("\"1f1b\"", "\"2f2b\""), HasSubstr("one of gpipe, 1f1b"));
  EXPECT_THAT(refusal("\"fp32\"", "\"fp16\""), HasSubstr("one of fp32, bf16"));
  EXPECT_THAT(refusal("\"recompute\": \"full\"", "\"recompute\": \"much\""),
              HasSubstr("one of none, selective, full"));
  EXPECT_THAT(refusal("\"state_sharding\": \"optimizer\"", "\"state_sharding\": 1"),
              HasSubstr("state_sharding"));
  EXPECT_THAT(refusal("\"mesh\": [2, 1, 1]", "\"mesh\": [2, 1]"), HasSubstr("each mesh axis"));
  EXPECT_THAT(refusal("\"mesh\": [2, 1, 1]", "\"mesh\": [1048576, 1048576, 4]"), HasSubstr("mesh"));
  EXPECT_THAT(refusal("\"shard 0\"", "\"shard\""), HasSubstr("\"shard N\""));
}

TEST(PlanFile, LayersMustBeThoseOfTheModel) {
  EXPECT_THAT(refusal("\"first\": \"layer.0\"", "\"first\": \"layer.1\""),
              HasSubstr("the next layer of the model"));
  EXPECT_THAT(refusal("\"count\": 1", "\"count\": 2"), HasSubstr("another kind of layer"));
  EXPECT_THAT(refusal("\"up\": [\"b\"", "\"up\": [\"q\""), HasSubstr("an axis of op up"));
  EXPECT_THAT(refusal("\"up\":", "\"sideways\": [\"-\", \"-\", \"-\"], \"up\":"),
              HasSubstr("no op of this name"));
  EXPECT_THAT(refusal("\"first\": \"head\",", "\"first\": \"layer.0\","), HasSubstr("head"));
}

TEST(PlanFile, PlanThatDoesNotFitItsModelIsRefused) {
  EXPECT_THAT(refusal("\"devices\": [2]", "\"devices\": [1]"),
              AllOf(HasSubstr("does not fit its model"), HasSubstr("device 1")));
  EXPECT_THAT(refusal("\"up\": [\"b\"", "\"up\": [\"f\""), HasSubstr("the data axis shards f"));
  EXPECT_THAT(refusal("\"devices\": [2]", "\"devices\": [4]"),
              HasSubstr("device 4, the cluster has 4"));
  EXPECT_THAT(refusal("\"width\": 8", "\"width\": \"8\""), HasSubstr("key 'model.width'"));
}

TEST(PlanFile, PredictionsAreChecked) {
  EXPECT_THAT(refusal("123456789012345", "-1"), HasSubstr("prediction.step_time_ps"));
  EXPECT_THAT(refusal("[1000, 2000]", "[1000, 0.5]"), HasSubstr("stage_memory_bytes[1]"));
  EXPECT_THAT(refusal("\"modelled\"", "\"guessed\""), HasSubstr("\"measured\" or \"modelled\""));
  EXPECT_THAT(refusal("\"modelled\"", "\"measured\""), HasSubstr("'table'"));
}

}  // namespace
}  // namespace shardwise
