// Sources: config.json of the models as published (Qwen/Qwen3-30B-A3B, Qwen/Qwen3-235B-A22B,
// deepseek-ai/DeepSeek-V3, mistralai/Mixtral-8x7B-v0.1 and 8x22B-v0.1).
#include "report/expert_shapes.h"

#include <cctype>

namespace shardwise {

namespace {

struct Known {
  const char* name;  // letters and digits, lower case
  DecoderShape shape;
};

DecoderShape shape_of(std::int64_t layers,
                      std::int64_t hidden,
                      std::int64_t heads,
                      std::int64_t key_value_heads,
                      std::int64_t vocabulary,
                      std::int64_t experts,
                      std::int64_t experts_per_token,
                      std::int64_t expert_width) {
  DecoderShape shape;
  shape.layers = layers;
  shape.hidden = hidden;
  shape.heads = heads;
  shape.key_value_heads = key_value_heads;
  shape.head_width = 128;
  shape.gated = true;
  shape.tied = false;
  shape.vocabulary = vocabulary;
  shape.experts = experts;
  shape.experts_per_token = experts_per_token;
  shape.expert_width = expert_width;
  return shape;
}

DecoderShape deepseek_v3() {
  DecoderShape shape = shape_of(61, 7168, 128, 128, 129280, 256, 8, 2048);
  shape.feed_forward = 18432;
  shape.dense_layers = 3;
  shape.shared_width = 2048;
  shape.latent = {1536, 512, 64, 128};
  return shape;
}

}  // namespace

std::optional<DecoderShape> expert_shape(const std::string& model) {
  std::string name;
  for (const char c : model) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      name.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
  }
  const Known kKnown[] = {
      {"qwen330b", shape_of(48, 2048, 32, 4, 151936, 128, 8, 768)},
      {"qwen3235b", shape_of(94, 4096, 64, 4, 151936, 128, 8, 1536)},
      {"mixtral8x7b", shape_of(32, 4096, 32, 8, 32000, 8, 2, 14336)},
      {"mixtral8x22b", shape_of(56, 6144, 48, 8, 32768, 8, 2, 16384)},
      {"deepseekv3", deepseek_v3()},
  };
  for (const Known& known : kKnown) {
    if (name.find(known.name) != std::string::npos) {
      DecoderShape shape = known.shape;
      // "w/ MTP": the multi-token prediction layer is trained as well.
      shape.prediction_layers = name.find("wmtp") != std::string::npos ? 1 : 0;
      return shape;
    }
  }
  return std::nullopt;
}

}  // namespace shardwise
