// Configurations that cannot be read: each message says where, what was expected and what was
// found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/model_family.h"
#include "models/model_testing.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The tiny configuration without one key.
std::string without(const std::string& model_type, const std::string& key) {
  std::string text;
  const std::string whole = tiny_config(model_type);
  std::size_t begin = 0;
  while (begin < whole.size()) {
    const std::size_t end = whole.find('\n', begin);
    const std::string line = whole.substr(begin, end - begin);
    if (line.find("\"" + key + "\"") == std::string::npos) {
      text += line + "\n";
    }
    begin = end == std::string::npos ? whole.size() : end + 1;
  }
  const std::size_t comma = text.rfind(",\n}");
  return comma == std::string::npos ? text : text.erase(comma, 1);
}

std::string refusal_with(const std::string& model_type, const std::string& extra) {
  return refusal_of(tiny_config(model_type, extra));
}

TEST(Refusal, MissingStructuralKeyIsNamed) {
  const std::vector<std::pair<std::string, std::string>> keys = {
      {"gpt2", "n_embd"},
      {"gpt2", "n_layer"},
      {"gpt2", "n_head"},
      {"gpt2", "n_positions"},
      {"gpt2", "vocab_size"},
      {"llama", "hidden_size"},
      {"llama", "intermediate_size"},
      {"llama", "num_hidden_layers"},
      {"llama", "num_attention_heads"},
      {"llama", "max_position_embeddings"},
      {"mistral", "num_key_value_heads"},
      {"qwen2", "num_key_value_heads"},
      {"qwen3", "head_dim"},
      {"mixtral", "num_local_experts"},
      {"mixtral", "num_experts_per_tok"},
  };
  for (const auto& [type, key] : keys) {
    SCOPED_TRACE(testing::Message() << type << " " << key);
    EXPECT_THAT(refusal_of(without(type, key)),
                AllOf(StartsWith("config.json:1: "), HasSubstr("expected key '" + key + "'")));
  }
}

TEST(Refusal, UnknownModelTypeSuggestsTheNearest) {
  EXPECT_THAT(
      refusal_of("{\n\"model_type\": \"lama\"}"),
      AllOf(StartsWith("config.json:2: key 'model_type': "), HasSubstr("did you mean 'llama'")));
  EXPECT_THAT(refusal_of("{}"), HasSubstr("model_type"));
  EXPECT_THAT(refusal_of(R"({"model_type": 3})"), HasSubstr("expected a text"));
}

TEST(Refusal, UnknownKeyIsNeverGuessedAt) {
  for (const std::string& type : model_types()) {
    SCOPED_TRACE(type);
    EXPECT_THAT(refusal_with(type, R"("logit_softcapping": 30.0)"),
                AllOf(HasSubstr("key 'logit_softcapping'"), HasSubstr("may change the model")));
  }
}

TEST(Refusal, MisspeltKeyIsRecognised) {
  EXPECT_THAT(refusal_with("llama", R"("tie_word_embedding": true)"),
              HasSubstr("did you mean 'tie_word_embeddings'?"));
}

TEST(Refusal, HeadsMustDivide) {
  EXPECT_THAT(refusal_with("gpt2", R"("n_head": 5)"),
              AllOf(HasSubstr("key 'n_head'"), HasSubstr("divisor of n_embd 32"), HasSubstr("5")));
  EXPECT_THAT(refusal_with("llama", R"("num_key_value_heads": 3)"),
              AllOf(HasSubstr("key 'num_key_value_heads'"), HasSubstr("divisor")));
  EXPECT_THAT(refusal_with("llama", R"("num_attention_heads": 6)"),
              AllOf(HasSubstr("key 'num_attention_heads'"), HasSubstr("or give head_dim")));
  EXPECT_THAT(refusal_with("llama", R"("head_dim": 7)"), HasSubstr("even head size"));
}

TEST(Refusal, StructureThatIsNotSupportedIsNamed) {
  const std::vector<std::pair<std::string, std::string>> keys = {
      {"gpt2", R"("scale_attn_by_inverse_layer_idx": true)"},
      {"gpt2", R"("add_cross_attention": true)"},
      {"gpt2", R"("pruned_heads": {"1": [0]})"},
      {"llama", R"("is_encoder_decoder": true)"},
      {"llama", R"("quantization_config": {"bits": 4})"},
      {"llama", R"("auto_map": {"AutoModel": "code.Model"})"},
      {"llama", R"("text_config": {"hidden_size": 3})"},
      {"llama", R"("partial_rotary_factor": 0.5)"},
      {"llama", R"("rope_interleaved": true)"},
      {"llama", R"("sliding_window": 128)"},
      {"mistral", R"("attention_bias": true)"},
      {"qwen2", R"("mlp_bias": true)"},
      {"qwen2", R"("use_mrope": true)"},
  };
  for (const auto& [type, extra] : keys) {
    const std::string key = extra.substr(1, extra.find('"', 1) - 1);
    EXPECT_THAT(refusal_with(type, extra), HasSubstr("key '" + key + "'")) << type;
  }
}

TEST(Refusal, HarmlessValuesOfTheSameKeysPass) {
  EXPECT_EQ(refusal_with("gpt2", R"("add_cross_attention": false, "pruned_heads": {})"), "");
  EXPECT_EQ(refusal_with("llama", R"("quantization_config": null, "partial_rotary_factor": 1.0)"),
            "");
  EXPECT_EQ(refusal_with("llama", R"("eos_token_id": [1, 2], "dtype": "bfloat16")"), "");
  EXPECT_EQ(refusal_with("llama", R"("layer_types": ["full_attention", "full_attention"])"), "");
}

TEST(Refusal, LayerTypesMustFitTheModel) {
  EXPECT_THAT(refusal_with("qwen2", R"("layer_types": ["full_attention"])"),
              HasSubstr("one type for each of 2 layers"));
  EXPECT_THAT(refusal_with("qwen2", R"("layer_types": ["full_attention", "linear_attention"])"),
              HasSubstr("key 'layer_types[1]'"));
  EXPECT_THAT(refusal_with("qwen2", R"("layer_types": ["full_attention", "sliding_attention"])"),
              HasSubstr("there is no sliding window"));
  EXPECT_THAT(refusal_with("mistral", R"("layer_types": ["sliding_attention", "full_attention"])"),
              HasSubstr("all layers of mistral are alike"));
}

TEST(Refusal, RopeSettingsAreCheckedByType) {
  const auto refused = [](const std::string& settings) {
    return refusal_with("llama", R"("rope_scaling": )" + settings);
  };
  EXPECT_THAT(refused(R"({"rope_type": "spiral"})"), HasSubstr("found \"spiral\""));
  EXPECT_THAT(refused(R"({"type": "linear"})"), HasSubstr("expected key 'factor'"));
  EXPECT_THAT(refused(R"({"type": "linear", "factor": 0})"), HasSubstr("rope_scaling.factor"));
  EXPECT_THAT(refused(R"({"rope_type": "default", "factor": 2})"), HasSubstr("known key"));
  EXPECT_THAT(refused(R"({"rope_type": "default", "partial_rotary_factor": 0.5})"),
              HasSubstr("rope_scaling.partial_rotary_factor"));
  EXPECT_THAT(
      refused(
          R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4})"),
      HasSubstr("less than high_freq_factor"));
  EXPECT_THAT(refused(R"({"type": "linear", "factor": 2}, "rope_parameters": {"factor": 2})"),
              HasSubstr("beside rope_parameters"));
}

TEST(Refusal, ActivationMustBeOneOfTransformers) {
  EXPECT_THAT(refusal_with("gpt2", R"("activation_function": "bump")"),
              AllOf(HasSubstr("key 'activation_function'"), HasSubstr("\"bump\"")));
  EXPECT_THAT(refusal_with("gpt2", R"("activation_function": "prelu")"),
              HasSubstr("without parameters"));
}

TEST(Refusal, SizesMustBePositiveAndPlausible) {
  EXPECT_THAT(refusal_with("gpt2", R"("n_layer": 0)"), HasSubstr("key 'n_layer'"));
  EXPECT_THAT(refusal_with("gpt2", R"("n_embd": "32")"), HasSubstr("drop the quotes"));
  EXPECT_THAT(refusal_with("gpt2", R"("n_embd": 4194304, "n_layer": 10000)"),
              HasSubstr("fewer than 1e15 parameters"));
  EXPECT_THAT(refusal_with("mistral", R"("sliding_window": 0)"), HasSubstr("sliding_window"));
  EXPECT_THAT(refusal_with("llama", R"("head_dim": 4194304)"), HasSubstr("smaller heads"));
}

TEST(Refusal, ExpertsPerTokenAreAtMostTheExperts) {
  EXPECT_THAT(refusal_with("mixtral", R"("num_experts_per_tok": 5)"),
              AllOf(HasSubstr("key 'num_experts_per_tok'"), HasSubstr("at most")));
}

TEST(Refusal, WholeDocumentMustBeAnObject) {
  EXPECT_THAT(refusal_of("[1]"), AllOf(StartsWith("config.json:1"), HasSubstr("an object")));
}

}  // namespace
}  // namespace shardwise
