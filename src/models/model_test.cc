#include "models/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "files/temporary_folder.h"
#include "models/model_family.h"
#include "models/model_testing.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

const Op& op_called(const Block& block, const std::string& name) {
  for (const Op& op : block.ops) {
    if (op.name == name) {
      return op;
    }
  }
  ADD_FAILURE() << "no op " << name;
  return block.ops.front();
}

const Tensor& tensor_called(const Block& block, const std::string& name) {
  for (const Tensor& tensor : block.tensors) {
    if (tensor.name == name) {
      return tensor;
    }
  }
  ADD_FAILURE() << "no tensor " << name;
  return block.tensors.front();
}

std::int64_t window_of(const Graph& graph, int layer) {
  return op_called(graph.block_of(layer), "attention.core").attributes.sliding_window;
}

TEST(Graph, HasEmbeddingDecodersAndHead) {
  for (const std::string& type : model_types()) {
    SCOPED_TRACE(type);
    const ModelConfig config = parse_tiny(type);
    const Graph graph = build_graph(config, 2, tiny_sequence(config));
    EXPECT_EQ(graph.model_type, type);
    EXPECT_EQ(graph.layers.back().name, "head");
    if (type == "t5" || type == "swin" || type == "wide_resnet") {
      continue;  // other stacks of layers
    }
    ASSERT_EQ(graph.layers.size(), 4U);
    EXPECT_EQ(graph.layers[0].name, "embedding");
    EXPECT_EQ(graph.layers[2].name, "layer.1");
    EXPECT_EQ(graph.layers[2].prefix, "layer.1.");
    EXPECT_EQ(graph.blocks.size(), 3U);  // equal layers share one
    EXPECT_THAT(graph.block_of(1).tensors[0].shape, ElementsAre(2, tiny_sequence(config), 32));
  }
}

TEST(Graph, LlamaCountByHand) {
  // Layer: q 32*32, k and v 32*16 each, o 32*32, MLP 3*32*48, norms 2*32 = 7744. Two layers, final
  // norm 32, embedding and head 2*97*32 = 6208.
  EXPECT_EQ(parameter_count(build_graph(parse_tiny("llama"), 1, 8)), 2 * 7744 + 32 + 6208);
}

TEST(Graph, TiedHeadIsAnAliasOfTheEmbedding) {
  const Graph graph = build_graph(parse_tiny("qwen3", R"("tie_word_embeddings": true)"), 1, 8);
  ASSERT_THAT(graph.tied, SizeIs(1));
  EXPECT_EQ(graph.tied[0].owner_layer, 0);
  EXPECT_EQ(graph.tied[0].alias_layer, 3);
  EXPECT_EQ(tensor_called(graph.blocks.back(), "linear.weight").shape,
            tensor_called(graph.blocks.front(), "token.weight").shape);
  EXPECT_THAT(build_graph(parse_tiny("gpt2"), 1, 8).tied, SizeIs(1));  // default of the class
  EXPECT_THAT(build_graph(parse_tiny("mistral"), 1, 8).tied, IsEmpty());
}

// Embedding, two encoder layers, two decoder layers and head hand on pairs but for the last one.
TEST(Graph, EncoderAndDecoderAreOneChainOfPairs) {
  const Graph graph = build_graph(parse_tiny("t5"), 3, 8);
  ASSERT_THAT(graph.layers, SizeIs(6));
  for (int layer = 1; layer <= 4; ++layer) {
    const Block& block = graph.block_of(layer);
    EXPECT_THAT(block.tensors[static_cast<std::size_t>(block.inputs[0])].shape,
                ElementsAre(3, 8, 2, 32));
  }
  EXPECT_EQ(graph.layers[3].name, "decoder.layer.0");
  EXPECT_THAT(tensor_called(graph.block_of(0), "tokens").shape, ElementsAre(3, 8, 2));
  EXPECT_THAT(tensor_called(graph.block_of(5), "input").shape, ElementsAre(3, 8, 32));
  ASSERT_THAT(graph.tied, SizeIs(1));  // embedding and head
  EXPECT_EQ(graph.tied[0].alias_layer, 5);
  ASSERT_THAT(graph.copied, SizeIs(2));  // relative positions of the second layers
  EXPECT_EQ(graph.copied[0].owner_layer, 1);
  EXPECT_EQ(graph.copied[0].alias_layer, 2);
  EXPECT_EQ(graph.copied[1].owner_layer, 3);
}

TEST(Graph, KeyValueHeadsAndQueriesPerHeadAreAxes) {
  const Graph graph = build_graph(parse_tiny("llama"), 1, 8);
  const Tensor& q = tensor_called(graph.blocks[1], "attention.q.weight");
  EXPECT_THAT(q.shape, ElementsAre(2, 2, 8, 32));  // kv heads, queries of each, head size, hidden
  const Op& linear = op_called(graph.blocks[1], "attention.q");
  EXPECT_EQ(linear.axes[static_cast<std::size_t>(axis_index(linear, "d"))].sharding,
            AxisSharding::kNever);
}

TEST(Graph, VocabularyOfTheHeadIsPadded) {
  const Graph graph = build_graph(parse_tiny("llama"), 1, 8);
  const Op& linear = op_called(graph.blocks.back(), "linear");
  EXPECT_EQ(linear.axes[static_cast<std::size_t>(axis_index(linear, "v"))].sharding,
            AxisSharding::kPadded);
}

TEST(Graph, SequenceBeyondThePositionsIsRefused) {
  const ModelConfig config = parse_tiny("gpt2");
  build_graph(config, 1, 64);
  try {
    build_graph(config, 1, 65);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), AllOf(StartsWith("config.json: "), HasSubstr("64"), HasSubstr("65")));
  }
}

TEST(Graph, MicrobatchBeyondAllMemoryIsRefused) {
  EXPECT_THROW(build_graph(parse_tiny("gpt2"), std::int64_t{1} << 40, 64), InputError);
}

TEST(Graph, ResidualProjectionsOfGpt2StartSmaller) {
  const Graph graph = build_graph(parse_tiny("gpt2"), 1, 8);
  const Block& block = graph.blocks[1];
  EXPECT_DOUBLE_EQ(tensor_called(block, "attention.q.weight").stddev, 0.02);
  EXPECT_DOUBLE_EQ(tensor_called(block, "attention.o.weight").stddev, 0.02 / 2);  // 2 layers
  EXPECT_DOUBLE_EQ(tensor_called(block, "mlp.down.weight").stddev, 0.02 / 2);
}

TEST(Config, ClassDefaultsFillAbsentKeys) {
  const ModelConfig gpt2 = parse_tiny("gpt2");
  EXPECT_EQ(gpt2.ffn_width, 128);
  EXPECT_EQ(gpt2.activation, "gelu_tanh");
  EXPECT_DOUBLE_EQ(gpt2.norm_epsilon, 1e-5);
  EXPECT_DOUBLE_EQ(gpt2.attention_scale, 1 / std::sqrt(8.0));
  EXPECT_FALSE(gpt2.rope.has_value());
  const ModelConfig mixtral = parse_tiny("mixtral");
  EXPECT_DOUBLE_EQ(mixtral.rope->theta, 1e6);
  EXPECT_DOUBLE_EQ(mixtral.norm_epsilon, 1e-5);
  const ModelConfig llama = parse_tiny("llama");
  EXPECT_DOUBLE_EQ(llama.rope->theta, 1e4);
  EXPECT_DOUBLE_EQ(llama.norm_epsilon, 1e-6);
  EXPECT_EQ(llama.activation, "silu");
}

TEST(Config, NullMeansTheDefaultOfTheClass) {
  const ModelConfig config =
      parse_tiny("llama", R"("num_key_value_heads": null, "head_dim": null, "rope_scaling": null)");
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(parse_tiny("gpt2", R"("n_inner": null)").ffn_width, 128);
}

TEST(Config, BiasesAndNormsFollowTheFamily) {
  EXPECT_TRUE(parse_tiny("qwen2").query_bias);  // no key says so
  EXPECT_FALSE(parse_tiny("qwen2").output_bias);
  EXPECT_TRUE(parse_tiny("qwen3").query_norm);
  const ModelConfig llama = parse_tiny("llama", R"("attention_bias": true, "mlp_bias": true)");
  EXPECT_TRUE(llama.query_bias && llama.output_bias && llama.mlp_bias);
}

TEST(Config, HeadSizeMayDifferFromHiddenSizeByHeads) {
  const Graph graph = build_graph(parse_tiny("mistral", R"("head_dim": 24)"), 1, 8);
  EXPECT_THAT(tensor_called(graph.blocks[1], "attention.o.weight").shape,
              ElementsAre(32, 2, 2, 24));
}

TEST(Config, RopeOfTransformers4And5AreTheSame) {
  const std::string settings =
      R"("factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 32, "rope_type": "llama3")";
  const ModelConfig old =
      parse_tiny("llama", R"("rope_theta": 5e5, "rope_scaling": {)" + settings + "}");
  const ModelConfig recent =
      parse_tiny("llama", R"("rope_parameters": {"rope_theta": 5e5, )" + settings + "}");
  EXPECT_EQ(old.rope, recent.rope);
  EXPECT_DOUBLE_EQ(old.rope->theta, 5e5);
  EXPECT_THAT(old.rope->parameters, ElementsAre(8, 1, 4, 32));
  EXPECT_THAT(training_refusals(old), IsEmpty());
}

TEST(Config, LinearRopeOfOldHasItsOwnKeyForTheType) {
  const ModelConfig config =
      parse_tiny("llama", R"("rope_scaling": {"type": "linear", "factor": 2.0})");
  EXPECT_EQ(config.rope->type, "linear");
  EXPECT_THAT(config.rope->parameters, ElementsAre(2));
}

TEST(Config, WindowOfMistralIsThereUnlessNull) {
  EXPECT_THAT(parse_tiny("mistral").sliding_windows, ElementsAre(4096, 4096));
  EXPECT_THAT(parse_tiny("mistral", R"("sliding_window": null)").sliding_windows,
              ElementsAre(0, 0));
  EXPECT_THAT(parse_tiny("mixtral").sliding_windows, ElementsAre(0, 0));
}

TEST(Config, WindowsOfQwenBeginAfterMaxWindowLayers) {
  const std::string window = R"("sliding_window": 16, "max_window_layers": 1)";
  EXPECT_THAT(parse_tiny("qwen2", window).sliding_windows, ElementsAre(0, 0));
  const ModelConfig config = parse_tiny("qwen2", window + R"(, "use_sliding_window": true)");
  EXPECT_THAT(config.sliding_windows, ElementsAre(0, 16));
  const Graph graph = build_graph(config, 1, 32);
  EXPECT_EQ(graph.blocks.size(), 4U);  // layers that differ have their own blocks
  EXPECT_EQ(window_of(graph, 1), 0);
  EXPECT_EQ(window_of(graph, 2), 16);
}

TEST(Config, LayerTypesDecideWindowsOfQwen) {
  const ModelConfig config =
      parse_tiny("qwen3",
                 R"("sliding_window": 8, "use_sliding_window": true, "max_window_layers": 28,
         "layer_types": ["sliding_attention", "full_attention"])");
  EXPECT_THAT(config.sliding_windows, ElementsAre(8, 0));
}

TEST(Graph, WindowThatCoversTheSequenceIsLeftOut) {
  const ModelConfig config = parse_tiny("mistral", R"("sliding_window": 16)");
  EXPECT_EQ(window_of(build_graph(config, 1, 17), 1), 16);
  EXPECT_EQ(window_of(build_graph(config, 1, 16), 1), 0);
}

TEST(Config, ModelTypeCanBeGiven) {
  const JsonValue value = parse_json(R"({"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 11,
                                         "n_positions": 4})",
                                     "config.json");
  const ModelConfig config = parse_model_config(value, "gpt2");
  EXPECT_EQ(config.model_type, "gpt2");
  EXPECT_THAT(config.json, HasSubstr(R"("model_type": "gpt2")"));
}

TEST(Config, AFolderMeansItsConfigJson) {
  const TemporaryFolder folder;
  folder.write("config.json", tiny_config("gpt2"));
  EXPECT_EQ(read_model_config(folder.path()).source, (folder.path() / "config.json").string());
}

TEST(Config, DropoutAndPaddingAreWarnedAbout) {
  const ModelConfig gpt2 = parse_tiny("gpt2", R"("attn_pdrop": 0, "embd_pdrop": 0.0)");
  EXPECT_THAT(gpt2.warnings, ElementsAre(StartsWith("resid_pdrop 0.1 counts as 0")));
  const ModelConfig llama = parse_tiny("llama", R"("pad_token_id": 2)");
  EXPECT_THAT(llama.warnings, ElementsAre(HasSubstr("pad_token_id 2")));
  EXPECT_THAT(parse_tiny("llama", R"("pad_token_id": null)").warnings, IsEmpty());
}

TEST(TrainingRefusals, NameWhatOnlyPlanAccepts) {
  EXPECT_THAT(training_refusals(parse_tiny("llama")), IsEmpty());
  const auto refused = [](const std::string& type, const std::string& extra) {
    return training_refusals(parse_tiny(type, extra));
  };
  EXPECT_THAT(refused("llama", R"("rope_scaling": {"rope_type": "yarn", "factor": 4})"),
              ElementsAre(R"(rope type "yarn")"));
  EXPECT_THAT(refused("llama", R"("hidden_act": "mish")"), ElementsAre(R"(hidden_act "mish")"));
  EXPECT_THAT(refused("mixtral", R"("output_router_logits": true)"),
              ElementsAre(StartsWith("output_router_logits true")));
  EXPECT_THAT(refused("mixtral", R"("output_router_logits": true, "router_aux_loss_coef": 0)"),
              IsEmpty());
  EXPECT_THAT(refused("mixtral", R"("router_jitter_noise": 0.1)"),
              ElementsAre("router_jitter_noise 0.1"));
  EXPECT_THAT(refused("gpt2", R"("reorder_and_upcast_attn": true)"),
              ElementsAre("reorder_and_upcast_attn true"));
}

}  // namespace
}  // namespace shardwise
