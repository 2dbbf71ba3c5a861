// Plans in the words of other frameworks: uniform grids come back as they went in, and what a
// framework cannot express is refused with the reason.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "io/exporter.h"
#include "models/model.h"
#include "planner/uniform_layout.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::int64_t kSequence = 16;

ModelConfig model_of(const std::string& type) {
  const std::string experts =
      type == "mixtral" ? R"("num_local_experts": 4, "num_experts_per_tok": 2,)" : "";
  return parse_model_config(
      parse_json(fmt::format(R"({{"model_type": "{}", {} "vocab_size": 64, "hidden_size": 32,
                      "intermediate_size": 64, "num_hidden_layers": 8, "num_attention_heads": 8,
                      "num_key_value_heads": 4, "max_position_embeddings": 64}})",
                             type,
                             experts),
                 "config.json"));
}

struct Planned {
  Plan plan;
  Graph graph;
};

Planned plan_of(const std::string& layout_text, const std::string& type = "llama") {
  const UniformLayout layout = parse_uniform_layout(layout_text, "test");
  const ModelConfig model = model_of(type);
  const GraphBuilder graph = [&](std::int64_t microbatch) {
    return build_graph(model, microbatch, kSequence);
  };
  Planned planned{
      make_uniform_plan(graph, layout, 32, kSequence, Precision::kBFloat16, layout.world(), "test"),
      graph(layout.microbatch())};
  return planned;
}

FrameworkPlan described(const Planned& planned) {
  return describe_for_frameworks(planned.plan, planned.graph, "plan.json");
}

std::string exported(const std::string& framework,
                     const std::string& layout,
                     const std::string& type = "llama") {
  return export_plan(
      parse_framework(framework, "test"), described(plan_of(layout, type)), "plan.json");
}

std::string refusal(const std::string& framework,
                    const std::string& layout,
                    const std::string& type = "llama") {
  try {
    exported(framework, layout, type);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(FrameworkPlan, UniformGridsComeBack) {
  int grids = 0;
  for (const int tensor : {1, 2, 4, 8}) {
    for (const int context : {1, 2}) {
      for (const int data : {1, 2, 4}) {
        for (const int pipeline : {1, 2, 4}) {
          for (int variant = 0; variant < 4; ++variant) {
            UniformLayout layout;
            layout.tensor = tensor;
            layout.context = tensor == 8 ? 1 : context;
            layout.data = data;
            layout.pipeline = pipeline;
            layout.sequence_parallel =
                tensor > 1 && variant % 2 == 1 && kSequence % (tensor * layout.context * 2) == 0;
            layout.zero = variant;
            layout.recompute = variant > 1 ? Recompute::kFull : Recompute::kNone;
            if (pipeline == 2 && variant == 3) {
              layout.layers = {5, 3};
            }
            SCOPED_TRACE(to_string(layout));
            const FrameworkPlan plan = described(plan_of(to_string(layout)));
            EXPECT_EQ(plan.tensor, layout.tensor);
            EXPECT_EQ(plan.context, layout.context);
            EXPECT_EQ(plan.data, layout.data);
            EXPECT_EQ(plan.pipeline, layout.pipeline);
            EXPECT_EQ(plan.expert, 1);
            EXPECT_EQ(plan.sequence_parallel, layout.sequence_parallel);
            EXPECT_EQ(plan.zero, layout.zero);
            EXPECT_EQ(plan.recomputes, layout.recompute == Recompute::kFull);
            EXPECT_EQ(plan.micro, 1);
            EXPECT_EQ(plan.is_even(), layout.layers.empty());
            ++grids;
          }
        }
      }
    }
  }
  EXPECT_EQ(grids, 4 * 2 * 3 * 3 * 4);
}

TEST(FrameworkPlan, ExpertDegreesComeBack) {
  EXPECT_EQ(described(plan_of("tp=2 dp=4 ep=4", "mixtral")).expert, 4);
  EXPECT_EQ(described(plan_of("tp=2 dp=4 ep=2", "mixtral")).expert, 2);
  EXPECT_EQ(described(plan_of("tp=2 dp=2 ep=4", "mixtral")).expert, 4);
}

TEST(FrameworkPlan, WhatDiffersByLayerIsRefused) {
  const auto refused = [](const Planned& planned) -> std::string {
    try {
      described(planned);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  Planned planned = plan_of("tp=2 dp=2");
  planned.plan.stages[0].chunks[0].layers[3].recompute = Recompute::kFull;
  EXPECT_THAT(refused(planned), AllOf(HasSubstr("layer.2"), HasSubstr("recomputes full")));
  planned = plan_of("tp=2 dp=2");
  planned.plan.stages[0].chunks[0].layers[4].state_sharding = StateSharding::kOptimizer;
  EXPECT_THAT(refused(planned), AllOf(HasSubstr("layer.3"), HasSubstr("shards state")));
  planned = plan_of("tp=2 dp=2");
  planned.plan.stages[0].chunks[0].layers[2].op_axes[1][1] = kUnassigned;
  EXPECT_THAT(refused(planned), AllOf(HasSubstr("layer.1"), HasSubstr("attention.q")));
  EXPECT_THAT(refused(plan_of("recompute=selective")), HasSubstr("selective recomputation"));
}

// Four key/value heads of two queries each on eight ranks: each head is repeated on two of them.
TEST(FrameworkPlan, RepeatedKeyValueHeadsAreMegatronsAlone) {
  const FrameworkPlan plan = described(plan_of("tp=8 sp=1"));
  EXPECT_EQ(plan.head_shards, 4);
  EXPECT_EQ(framework_refusal(Framework::kMegatron, plan), "");
  EXPECT_THAT(framework_refusal(Framework::kTorchtitan, plan), HasSubstr("key/value heads"));
  EXPECT_THAT(framework_refusal(Framework::kAccelerate, described(plan_of("tp=8 dp=2 zero=3"))),
              HasSubstr("key/value heads"));
}

TEST(FrameworkPlan, OnlyOneStackOfLayersHasWords) {
  Planned planned = plan_of("pp=2 dp=2");
  EXPECT_TRUE(is_one_stack(planned.graph));
  for (std::size_t layer = 1; layer <= 4; ++layer) {
    planned.graph.layers[layer].name = "encoder." + planned.graph.layers[layer].name;
  }
  try {
    described(planned);
    FAIL() << "two stacks were described";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("one stack of layers"));
  }
}

TEST(FrameworkPlan, TensorsBetweenLayersMustBeAsOpsLeaveThem) {
  Planned planned = plan_of("tp=2 dp=2");
  planned.plan.stages[0].chunks[0].layers[3].input_layout[1] = AxisLayout::shard(1);
  try {
    described(planned);
    FAIL() << "a boundary of its own was read";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("layer.2"), HasSubstr("shard(1)")));
  }
}

TEST(FrameworkPlan, ExpertsSpreadAlikeInAllLayers) {
  Planned planned = plan_of("dp=4 ep=4", "mixtral");
  const Block& block = planned.graph.block_of(1);
  for (std::size_t o = 0; o < block.ops.size(); ++o) {
    if (block.ops[o].kind == OpKind::kExperts) {
      planned.plan.stages[0].chunks[0].layers[2].op_axes[o][0] =
          static_cast<std::int8_t>(axis_index(block.ops[o], "b"));
    }
  }
  EXPECT_THROW(described(planned), InputError);
}

TEST(ExportMegatron, SaysDegreesAndLayout) {
  const std::string text =
      exported("megatron", "tp=2 pp=2 dp=2 zero=1 sp=1 micro=2 recompute=full layers=5,3");
  EXPECT_THAT(text,
              AllOf(HasSubstr("--tensor-model-parallel-size 2\n"),
                    HasSubstr("--sequence-parallel\n"),
                    HasSubstr("--pipeline-model-parallel-layout 'Et*5|t*3L'\n"),
                    HasSubstr("--micro-batch-size 2\n"),
                    HasSubstr("--global-batch-size 32\n"),
                    HasSubstr("--use-distributed-optimizer\n"),
                    HasSubstr("--recompute-granularity full\n"),
                    HasSubstr("--bf16\n")));
  EXPECT_THAT(exported("megatron", "pp=2 vp=2"), HasSubstr("'Et*2|t*2|t*2|t*2L'"));
  EXPECT_THAT(exported("megatron", "pp=2"), Not(HasSubstr("layout")));
  EXPECT_THAT(refusal("megatron", "pp=2 schedule=gpipe"), HasSubstr("gpipe"));
}

TEST(ExportTorchtitan, SaysDegreesAndModules) {
  const std::string text =
      exported("torchtitan", "tp=2 pp=2 dp=2 zero=3 sp=1 layers=5,3 recompute=full");
  EXPECT_THAT(text,
              AllOf(HasSubstr("data_parallel_shard_degree = 2\n"),
                    HasSubstr("fsdp_reshard_after_forward = \"always\"\n"),
                    HasSubstr("pipeline_parallel_schedule = \"1F1B\"\n"),
                    HasSubstr("[\"tok_embeddings\", \"layers.0\", \"layers.1\", \"layers.2\", "
                              "\"layers.3\", \"layers.4\"],\n"),
                    HasSubstr("\"layers.7\", \"norm\", \"output\"],\n"),
                    HasSubstr("mode = \"full\"\n")));
  EXPECT_THAT(refusal("torchtitan", "dp=2 zero=1"), HasSubstr("never the optimizer alone"));
  EXPECT_THAT(refusal("torchtitan", "tp=2"), HasSubstr("shards the sequence"));
  EXPECT_THAT(refusal("torchtitan", "pp=2 schedule=1f1b-eager"), HasSubstr("eager"));
}

TEST(ExportDeepspeed, IsJson) {
  const auto json = nlohmann::json::parse(exported("deepspeed", "tp=2 dp=4 zero=2 micro=2"));
  EXPECT_EQ(json["train_batch_size"], 32);
  // DeepSpeed asserts: batch = micro-batch x accumulation x data ranks.
  EXPECT_EQ(json["train_micro_batch_size_per_gpu"].get<int>() *
                json["gradient_accumulation_steps"].get<int>() * 4,
            32);
  EXPECT_EQ(json["zero_optimization"]["stage"], 2);
  EXPECT_EQ(json["tensor_parallel"]["autotp_size"], 2);
  EXPECT_THAT(refusal("deepspeed", "pp=2"), HasSubstr("PipelineModule"));
  EXPECT_THAT(refusal("deepspeed", "cp=2"), HasSubstr("Ulysses"));
  EXPECT_THAT(refusal("deepspeed", "recompute=full"), HasSubstr("called in code"));
  EXPECT_THAT(refusal("deepspeed", "tp=2 dp=2 ep=2", "mixtral"), HasSubstr("AutoEP"));
}

TEST(ExportAccelerate, SaysWhatFsdpShards) {
  EXPECT_THAT(exported("accelerate", "tp=2 dp=4 zero=3 recompute=full"),
              AllOf(HasSubstr("num_processes: 8\n"),
                    HasSubstr("parallelism_config_dp_shard_size: 4\n"),
                    HasSubstr("parallelism_config_tp_size: 2\n"),
                    HasSubstr("fsdp_activation_checkpointing: true\n")));
  EXPECT_THAT(exported("accelerate", "dp=4"), HasSubstr("distributed_type: MULTI_GPU\n"));
  EXPECT_THAT(refusal("accelerate", "pp=2"), HasSubstr("no pipeline parallelism"));
  EXPECT_THAT(refusal("accelerate", "dp=2 ep=2", "mixtral"), HasSubstr("no expert parallelism"));
  EXPECT_THAT(refusal("accelerate", "dp=2 zero=1"), HasSubstr("of the optimizer"));
  EXPECT_THAT(refusal("accelerate", "tp=2 zero=3"), HasSubstr("data and context ranks"));
  EXPECT_THAT(refusal("accelerate", "tp=2 dp=2"), HasSubstr("sharded data parallelism only"));
}

TEST(Exporters, UnknownFrameworkIsNamed) {
  EXPECT_THROW(parse_framework("megatorn", "flag --to"), InputError);
}

}  // namespace
}  // namespace shardwise
