#include "models/model_family.h"

#include <algorithm>
#include <string>

#include "core/errors.h"

namespace shardwise {

namespace {

const std::vector<ModelFamily>& families() {
  static const std::vector<ModelFamily> kFamilies = {
      bert_family(),
      deepseek_family(),
      deepseek_v2_family(),
      deepseek_v3_family(),
      gemma2_family(),
      gpt2_family(),
      gpt_neox_family(),
      llama_family(),
      mistral_family(),
      mixtral_family(),
      qwen2_family(),
      qwen2_moe_family(),
      qwen3_family(),
      qwen3_moe_family(),
      swin_family(),
      t5_family(),
      vit_family(),
      wide_resnet_family(),
  };
  return kFamilies;
}

}  // namespace

const std::vector<std::string>& model_types() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const ModelFamily& family : families()) {
      names.emplace_back(family.model_type);
    }
    return names;
  }();
  return kNames;
}

const ModelFamily* find_family(std::string_view model_type) {
  const auto found = std::find_if(families().begin(), families().end(), [&](const auto& family) {
    return family.model_type == model_type;
  });
  return found == families().end() ? nullptr : &*found;
}

const ModelFamily& family_of(const ModelConfig& config) {
  const ModelFamily* family = find_family(config.model_type);
  SHARDWISE_CHECK(family != nullptr, "a model configuration of type " + config.model_type);
  return *family;
}

}  // namespace shardwise
