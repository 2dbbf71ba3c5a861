#include "models/model_testing.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

Json decoder_sizes() {
  return {{"hidden_size", 32},
          {"intermediate_size", 48},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 64}};
}

// Decoders with one kind of head, and encoders.
Json plain_sizes() {
  Json sizes = decoder_sizes();
  sizes.erase("num_key_value_heads");
  return sizes;
}

Json image_sizes() { return {{"image_size", 32}, {"num_channels", 3}, {"num_labels", 5}}; }

Json sizes_of(const std::string& model_type) {
  if (model_type == "gpt2") {
    return {{"n_embd", 32}, {"n_layer", 2}, {"n_head", 4}, {"n_positions", 64}};
  }
  if (model_type == "bert" || model_type == "gpt_neox") {
    return plain_sizes();
  }
  if (model_type == "t5") {
    return {{"d_model", 32},
            {"d_kv", 8},
            {"d_ff", 48},
            {"num_layers", 2},
            {"num_heads", 4},
            {"relative_attention_num_buckets", 16}};
  }
  if (model_type == "vit") {
    Json sizes = image_sizes();
    sizes.update(plain_sizes());
    sizes.erase("max_position_embeddings");
    sizes["patch_size"] = 8;
    return sizes;
  }
  if (model_type == "swin") {
    Json sizes = image_sizes();
    sizes.update(Json{{"patch_size", 4}, {"window_size", 4}, {"embed_dim", 16}});
    sizes.update(Json{{"depths", Json::array({1, 2})}, {"num_heads", Json::array({2, 4})}});
    return sizes;
  }
  if (model_type == "wide_resnet") {
    Json sizes = image_sizes();
    sizes.update(Json{{"depths", Json::array({1, 2})}, {"base_width", 4}, {"width_factor", 2}});
    return sizes;
  }
  return decoder_sizes();
}

bool has_vocabulary(const std::string& model_type) {
  return model_type != "vit" && model_type != "swin" && model_type != "wide_resnet";
}

void add_experts(const std::string& model_type, Json& config) {
  if (model_type == "mixtral") {
    config.update(Json{{"num_local_experts", 4}, {"num_experts_per_tok", 2}});
  }
  if (model_type == "qwen2_moe" || model_type == "qwen3_moe") {
    config.update(
        Json{{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 24}});
  }
  if (model_type == "qwen2_moe") {
    config["shared_expert_intermediate_size"] = 40;
  }
  if (model_type.starts_with("deepseek")) {
    config.update(Json{{"n_routed_experts", 4},
                       {"num_experts_per_tok", 2},
                       {"moe_intermediate_size", 24},
                       {"n_shared_experts", 2}});
  }
}

}  // namespace

std::string tiny_config(const std::string& model_type, const std::string& extra) {
  Json config = {{"model_type", model_type}};
  if (has_vocabulary(model_type)) {
    config["vocab_size"] = 97;
  }
  config.update(sizes_of(model_type));
  add_experts(model_type, config);
  if (model_type == "qwen3" || model_type == "qwen3_moe" || model_type == "gemma2") {
    config["head_dim"] = 16;
  }
  if (model_type == "deepseek_v2" || model_type == "deepseek_v3") {
    config.erase("num_key_value_heads");
    config.update(Json{{"kv_lora_rank", 20},
                       {"qk_nope_head_dim", 6},
                       {"qk_rope_head_dim", 4},
                       {"v_head_dim", 10}});
  }
  if (model_type == "deepseek_v3") {
    config["q_lora_rank"] = 12;
  }
  config.update(Json::parse("{" + extra + "}"));
  return config.dump(1);
}

std::int64_t tiny_sequence(const ModelConfig& config) {
  return config.fixed_sequence > 0 ? config.fixed_sequence : 16;
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
