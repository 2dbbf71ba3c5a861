// What a model family has to say: how its configuration is read, which ops its layers have, and
// what its tensors are called in files. One file a family; the registry is model_family.cc.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "files/file_slice.h"
#include "graph/block_builder.h"
#include "models/config_reader.h"
#include "models/model.h"

namespace shardwise {

// Size of one micro-batch.
struct BatchShape {
  std::int64_t microbatch = 1;
  std::int64_t sequence = 1;
};

// Which of the forms in which a family's tensors lie in files.
//   kPublished  as models are published, and as save_pretrained writes them
//   kFused      mixtral only: the experts of a layer in two tensors, as transformers 5 holds them
enum class CheckpointForm { kPublished, kFused };

// A parameter of the graph, as the naming functions see it.
struct NamedParameter {
  enum class Part { kEmbedding, kDecoder, kHead };
  Part part = Part::kDecoder;
  std::int64_t decoder = 0;  // index of the decoder layer
  std::string_view layer;    // name of the layer in the graph
  const Tensor& tensor;      // name without the layer's prefix
  const ModelConfig& config;
};

class GraphAssembler;

struct ModelFamily {
  std::string_view model_type;
  // Prefix that files of the model with its head have and those of the bare model lack.
  std::string_view file_prefix;
  bool has_fused_form;
  // Fills everything but model_type, source, json, warnings and refusals.
  void (*read)(ConfigReader&, ModelConfig&);
  // Adds the layers in order, then what is tied.
  void (*build)(const ModelConfig&, const BatchShape&, GraphAssembler&);
  std::vector<FileSlice> (*file_slices)(const NamedParameter&, CheckpointForm);
};

// Names of the families, sorted.
const std::vector<std::string>& model_types();

// The family, or nullptr.
const ModelFamily* find_family(std::string_view model_type);

// Requires a known model_type.
const ModelFamily& family_of(const ModelConfig& config);

ModelFamily bert_family();
ModelFamily deepseek_family();
ModelFamily deepseek_v2_family();
ModelFamily deepseek_v3_family();
ModelFamily gemma2_family();
ModelFamily gpt2_family();
ModelFamily gpt_neox_family();
ModelFamily llama_family();
ModelFamily mistral_family();
ModelFamily mixtral_family();
ModelFamily qwen2_family();
ModelFamily qwen2_moe_family();
ModelFamily qwen3_family();
ModelFamily qwen3_moe_family();
ModelFamily swin_family();
ModelFamily t5_family();
ModelFamily vit_family();
ModelFamily wide_resnet_family();

}  // namespace shardwise
