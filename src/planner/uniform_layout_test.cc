#include "planner/uniform_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/errors.h"
#include "planner/tiny_models_testing.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;
using testing::tiny_gpt2;
using testing::tiny_graph;
using testing::tiny_llama;
using testing::tiny_mixtral;
using testing::TinyModel;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

UniformLayout parse(const std::string& text) { return parse_uniform_layout(text, "--layout"); }

Plan make(TinyModel model, const std::string& text, std::int64_t batch = 8) {
  const UniformLayout layout = parse(text);
  model.microbatch = layout.microbatch();
  return make_uniform_plan(tiny_graph(model),
                           layout,
                           batch,
                           model.sequence,
                           Precision::kFloat32,
                           layout.world(),
                           "--layout");
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

// Names of the loop axes that the op's mesh axes shard, "-" for none.
std::string axes_of(const Graph& graph, const Plan& plan, int layer, const std::string& op_name) {
  const Block& block = graph.block_of(layer);
  const LayerPlan& layer_axes = layer_plan(plan, place_of(plan, layer));
  for (std::size_t o = 0; o < block.ops.size(); ++o) {
    if (block.ops[o].name == op_name) {
      std::string text;
      for (const std::int8_t axis : layer_axes.op_axes[o]) {
        text += (text.empty() ? "" : " ") +
                (axis == kUnassigned ? "-" : block.ops[o].axes[at(axis)].name);
      }
      return text;
    }
  }
  return "no such op";
}

TEST(UniformLayoutText, EveryKeyIsRead) {
  const UniformLayout layout = parse(
      "tp=8 pp=4 dp=3 cp=2 ep=3 vp=2 zero=1 sp=1 micro=5 recompute=full "
      "schedule=interleaved layers=9,7");
  EXPECT_EQ(layout.tensor, 8);
  EXPECT_EQ(layout.pipeline, 4);
  EXPECT_EQ(layout.data, 3);
  EXPECT_EQ(layout.context, 2);
  EXPECT_EQ(layout.expert, 3);
  EXPECT_EQ(layout.chunks, 2);
  EXPECT_EQ(layout.zero, 1);
  EXPECT_TRUE(layout.sequence_parallel);
  EXPECT_EQ(layout.micro, 5);
  EXPECT_EQ(layout.recompute, Recompute::kFull);
  EXPECT_EQ(layout.schedule, Schedule::kInterleaved);
  EXPECT_EQ(layout.layers, (std::vector<int>{9, 7}));
  EXPECT_EQ(layout.world(), 8 * 4 * 3 * 2);
  EXPECT_EQ(parse(to_string(layout)), layout);
}

TEST(UniformLayoutText, SeveralChunksMeanInterleaved) {
  EXPECT_EQ(parse("pp=2 vp=2").schedule, Schedule::kInterleaved);
  EXPECT_EQ(parse(""), UniformLayout{});
  EXPECT_EQ(to_string(UniformLayout{}), "dp=1");
}

TEST(UniformLayoutText, ErrorsNameKeyValueAndRemedy) {
  EXPECT_EQ(error_of([] { parse("mircro=2"); }),
            "--layout: unknown key 'mircro'; did you mean 'micro'?");
  EXPECT_THAT(error_of([] { parse("tp=two"); }),
              HasSubstr("key 'tp': expected a whole number from 1"));
  EXPECT_THAT(error_of([] { parse("tp=0"); }), HasSubstr("got \"0\""));
  EXPECT_THAT(error_of([] { parse("zero=4"); }), HasSubstr("from 0 to 3"));
  EXPECT_THAT(error_of([] { parse("tp"); }), HasSubstr("expected key=value"));
  EXPECT_THAT(error_of([] { parse("tp=1 tp=2"); }), HasSubstr("given twice"));
  EXPECT_THAT(error_of([] { parse("schedule=1f1b-eagre"); }),
              HasSubstr("did you mean '1f1b-eager'"));
  EXPECT_THAT(error_of([] { parse("layers=3,"); }), HasSubstr("key 'layers'"));
  EXPECT_THAT(error_of([] { parse("tp=1000000 dp=1000000 pp=1000000"); }),
              HasSubstr("use smaller degrees"));
}

TEST(UniformPlan, TensorParallelIsMegatrons) {
  const Graph graph = tiny_graph(tiny_gpt2());
  const Plan plan = make(tiny_gpt2(), "tp=2 micro=4");
  EXPECT_EQ(plan.stages[0].mesh, (Mesh{{1, 2, 1}}));
  EXPECT_EQ(axes_of(graph, plan, 0, "embedding"), "- v -");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention.q"), "- n -");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention"), "- n -");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention.o"), "- n -");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention_norm"), "- - -");
  EXPECT_EQ(axes_of(graph, plan, 1, "mlp.fc1"), "- f -");
  EXPECT_EQ(axes_of(graph, plan, 1, "mlp.fc2"), "- f -");
  EXPECT_EQ(axes_of(graph, plan, 5, "head"), "- v -");
  EXPECT_EQ(axes_of(graph, plan, 5, "loss"), "- v -");
}

TEST(UniformPlan, SequenceParallelShardsNormsAndBoundaries) {
  const Graph graph = tiny_graph(tiny_gpt2());
  const Plan plan = make(tiny_gpt2(), "tp=2 sp=1 micro=4");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention_norm"), "- s -");
  EXPECT_EQ(axes_of(graph, plan, 1, "mlp_residual"), "- s -");
  EXPECT_EQ(axes_of(graph, plan, 1, "mlp.fc1"), "- f -");
  EXPECT_EQ(layer_plan(plan, place_of(plan, 2)).input_layout[1], AxisLayout::shard(1));
}

TEST(UniformPlan, FewKeyValueHeadsUseBothFreeAxes) {
  // 2 key/value heads with 2 queries each on 4 tensor ranks: 2 x 2. Keys and values are repeated
  // on the second axis.
  const Graph graph = tiny_graph(tiny_llama());
  const Plan plan = make(tiny_llama(), "tp=4 micro=4");
  EXPECT_EQ(plan.stages[0].mesh, (Mesh{{1, 2, 2}}));
  EXPECT_EQ(axes_of(graph, plan, 1, "attention.q"), "- n r");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention.k"), "- n -");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention.k_rotary"), "- n -");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention"), "- n r");
  EXPECT_EQ(axes_of(graph, plan, 1, "mlp.down"), "- f f");
}

TEST(UniformPlan, OneKeyValueHeadUsesOneFreeAxis) {
  TinyModel model = tiny_llama();
  model.kv_heads = 1;
  model.queries = 4;
  const Plan plan = make(model, "tp=4 micro=4");
  EXPECT_EQ(plan.stages[0].mesh, (Mesh{{1, 4, 1}}));
  EXPECT_EQ(axes_of(tiny_graph(model), plan, 1, "attention.q"), "- r -");
  EXPECT_EQ(axes_of(tiny_graph(model), plan, 1, "attention.k"), "- - -");
}

TEST(UniformPlan, ContextShardsTheSequenceOfEveryOp) {
  const Graph graph = tiny_graph(tiny_llama());
  const Plan plan = make(tiny_llama(), "cp=2 tp=2 dp=2 micro=2");
  EXPECT_EQ(plan.context_chunks, 2);
  EXPECT_EQ(plan.stages[0].mesh, (Mesh{{2, 2, 2}}));
  EXPECT_EQ(axes_of(graph, plan, 1, "attention"), "b s n");
  EXPECT_EQ(axes_of(graph, plan, 1, "attention.k"), "b s n");
  EXPECT_EQ(axes_of(graph, plan, 5, "loss"), "b s v");
}

TEST(UniformPlan, ExpertsSpreadOverDataOrTensorRanksOrBoth) {
  const Graph graph = tiny_graph(tiny_mixtral());
  const auto experts = [&](const std::string& text) {
    return axes_of(graph, make(tiny_mixtral(), text), 1, "experts");
  };
  EXPECT_EQ(experts("dp=2 tp=2"), "b f -");
  EXPECT_EQ(experts("dp=2 ep=2"), "xb - -");
  EXPECT_EQ(experts("dp=2 tp=2 ep=2"), "xb f -");
  EXPECT_EQ(experts("dp=4 tp=2 ep=2"), "b e -");
  EXPECT_EQ(experts("dp=2 tp=2 ep=4"), "xb e -");
}

TEST(UniformPlan, RanksCountTensorFirstThenDataThenPipeline) {
  const Plan plan = make(tiny_gpt2(), "tp=2 dp=2 pp=2");
  EXPECT_EQ(plan.stages[0].devices, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(plan.stages[1].devices, (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(coordinates_of(plan.stages[0].mesh, 1), (MeshCoordinates{0, 1, 0}));
}

TEST(UniformPlan, LayersAreSplitEvenlyOrAsGiven) {
  // 4 decoder layers, embedding first and head last.
  const auto ends = [](const Plan& plan) {
    std::vector<int> result;
    for (int c = 0; c < plan.num_chunks(); ++c) {
      for (const StagePlan& stage : plan.stages) {
        result.push_back(stage.chunks[at(c)].end_layer());
      }
    }
    return result;
  };
  EXPECT_EQ(ends(make(tiny_gpt2(), "pp=2")), (std::vector<int>{3, 6}));
  EXPECT_EQ(ends(make(tiny_gpt2(), "pp=3")), (std::vector<int>{3, 4, 6}));  // 2, 1, 1
  EXPECT_EQ(ends(make(tiny_gpt2(), "pp=2 layers=1,3")), (std::vector<int>{2, 6}));
  EXPECT_EQ(ends(make(tiny_gpt2(), "pp=2 vp=2")), (std::vector<int>{2, 3, 4, 6}));
  TinyModel odd = tiny_gpt2();
  odd.decoder_layers = 5;
  EXPECT_EQ(ends(make(odd, "pp=2 vp=2")), (std::vector<int>{2, 3, 4, 7}));  // 1, 1, 1, 2
  // Embedding alone, one layer each, head alone.
  EXPECT_EQ(ends(make(tiny_gpt2(), "pp=6")), (std::vector<int>{1, 2, 3, 4, 5, 6}));
}

TEST(UniformPlan, StateAndMicrobatchesFollowTheFlags) {
  const Plan plan = make(tiny_gpt2(), "dp=2 micro=2 zero=3 recompute=selective", 16);
  EXPECT_EQ(plan.num_microbatches, 4);  // 16 / (2 x 2)
  EXPECT_EQ(layer_plan(plan, place_of(plan, 1)).state_sharding, StateSharding::kParameters);
  EXPECT_EQ(layer_plan(plan, place_of(plan, 1)).recompute, Recompute::kSelective);
}

TEST(UniformPlan, ErrorsNameNumbersAndRemedies) {
  const auto error = [](const TinyModel& model, const std::string& text, std::int64_t batch = 8) {
    return error_of([&] { make(model, text, batch); });
  };
  EXPECT_THAT(error(tiny_gpt2(), "tp=3"),
              HasSubstr("tp=3 does not divide the attention heads (4 key/value heads with 1 "
                        "queries each); nearest degrees that do: 2 or 4"));
  EXPECT_THAT(error(tiny_gpt2(), "dp=3"),
              HasSubstr("micro 1 x dp 3 = 3 sequences do not divide the batch of 8; nearest "
                        "batch: 6 or 9"));
  EXPECT_THAT(error(tiny_gpt2(), "dp=2 micro=3"), HasSubstr("or micro=2 or 4"));
  EXPECT_THAT(error(tiny_llama(), "tp=4 cp=2"), HasSubstr("need three mesh axes besides data"));
  EXPECT_THAT(error(tiny_gpt2(), "ep=2 dp=2"), HasSubstr("has no experts"));
  EXPECT_THAT(error(tiny_mixtral(), "ep=3 dp=2"), HasSubstr("ep=3 cannot be expressed"));
  EXPECT_THAT(error(tiny_mixtral(), "ep=8 dp=8"), HasSubstr("does not divide the 4 experts"));
  EXPECT_THAT(error(tiny_gpt2(), "pp=7"), HasSubstr("the model has 4 decoder layers"));
  EXPECT_THAT(error(tiny_gpt2(), "pp=2 layers=1,2"), HasSubstr("gives 3 layers to 2 stages"));
  EXPECT_THAT(error(tiny_gpt2(), "pp=2 vp=2 schedule=1f1b"), HasSubstr("schedule=interleaved"));
  EXPECT_THAT(error(tiny_gpt2(), "pp=2 vp=2", 3), HasSubstr("nearest batch: 2 or 4"));
  TinyModel odd = tiny_gpt2();
  odd.sequence = 14;
  EXPECT_THAT(error(odd, "cp=4"), HasSubstr("nearest: 8 or 16"));
  EXPECT_THAT(error(odd, "tp=4 sp=1"), HasSubstr("use sp=0 or tp=2"));
}

TEST(UniformPlan, OtherWorldIsRefusedWithARemedy) {
  const Graph graph = tiny_graph(tiny_gpt2());
  const UniformLayout layout = parse("tp=2 dp=2 micro=2");
  const auto make_for = [&](int world) {
    make_uniform_plan(graph, layout, 8, 16, Precision::kFloat32, world, "--layout");
  };
  EXPECT_EQ(error_of([&] { make_for(8); }),
            "--layout: tp 2 x pp 1 x dp 2 x cp 1 = 4 ranks, the cluster has 8; dp=4 would use "
            "them all");
  EXPECT_THAT(error_of([&] { make_for(3); }), HasSubstr("must divide the number of ranks"));
}

}  // namespace
}  // namespace shardwise
