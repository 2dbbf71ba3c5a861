#include "models/model_testing.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace shardwise {

std::string tiny_config(const std::string& model_type, const std::string& extra) {
  using Json = nlohmann::ordered_json;
  Json config = {{"model_type", model_type}, {"vocab_size", 97}};
  const Json sizes = model_type == "gpt2"
                         ? Json{{"n_embd", 32}, {"n_layer", 2}, {"n_head", 4}, {"n_positions", 64}}
                         : Json{{"hidden_size", 32},
                                {"intermediate_size", 48},
                                {"num_hidden_layers", 2},
                                {"num_attention_heads", 4},
                                {"num_key_value_heads", 2},
                                {"max_position_embeddings", 64}};
  config.update(sizes);
  if (model_type == "qwen3" || model_type == "qwen3_moe") {
    config["head_dim"] = 16;
  }
  if (model_type == "qwen2_moe" || model_type == "qwen3_moe") {
    config.update(
        Json{{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 24}});
  }
  if (model_type == "qwen2_moe") {
    config["shared_expert_intermediate_size"] = 40;
  }
  if (model_type == "mixtral") {
    config["num_local_experts"] = 4;
    config["num_experts_per_tok"] = 2;
  }
  config.update(Json::parse("{" + extra + "}"));
  return config.dump(1);
}

ModelConfig parse_tiny(const std::string& model_type, const std::string& extra) {
  return parse_model_config(parse_json(tiny_config(model_type, extra), "config.json"));
}

std::string refusal_of(const std::string& config_text) {
  try {
    parse_model_config(parse_json(config_text, "config.json"));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

}  // namespace shardwise
