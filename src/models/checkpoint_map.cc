#include "models/checkpoint_map.h"

#include <fmt/format.h>

#include <set>
#include <string_view>
#include <utility>

#include "core/errors.h"
#include "core/text.h"
#include "models/model_family.h"

namespace shardwise {

namespace {

CheckpointMap build_map(const ModelConfig& config, const Graph& graph, CheckpointForm form) {
  const ModelFamily& family = family_of(config);
  const int last = static_cast<int>(graph.layers.size()) - 1;
  CheckpointMap map;
  for (int layer = 0; layer <= last; ++layer) {
    const NamedParameter::Part part = layer == 0      ? NamedParameter::Part::kEmbedding
                                      : layer == last ? NamedParameter::Part::kHead
                                                      : NamedParameter::Part::kDecoder;
    const std::vector<Tensor>& tensors = graph.block_of(layer).tensors;
    for (int t = 0; t < static_cast<int>(tensors.size()); ++t) {
      const Tensor& tensor = tensors[static_cast<std::size_t>(t)];
      if (tensor.kind == TensorKind::kParameter && !is_alias(graph, layer, t)) {
        map.push_back({layer,
                       t,
                       family.file_slices({part,
                                           layer - 1,
                                           graph.layers[static_cast<std::size_t>(layer)].name,
                                           tensor,
                                           config},
                                          form)});
      }
    }
  }
  return map;
}

// Tensors that old versions of transformers saved and that hold nothing learned.
bool is_old_buffer(std::string_view name) {
  for (const std::string_view suffix :
       {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"}) {
    if (name.ends_with(suffix)) {
      return true;
    }
  }
  return false;
}

std::string without_prefix(const std::string& name, std::string_view prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

}  // namespace

CheckpointMap written_checkpoint(const ModelConfig& config, const Graph& graph) {
  return build_map(config, graph, CheckpointForm::kPublished);
}

CheckpointMap stored_checkpoint(const ModelConfig& config,
                                const Graph& graph,
                                std::span<const std::string> names,
                                const std::string& where) {
  const ModelFamily& family = family_of(config);
  std::set<std::string> left_over(names.begin(), names.end());
  const std::set<std::string> present = left_over;
  bool is_fused = false;
  bool is_bare = true;
  for (const std::string& name : present) {
    is_fused |= family.has_fused_form && name.ends_with(".mlp.experts.gate_up_proj");
    is_bare &= !name.starts_with(family.file_prefix);
  }
  CheckpointMap map =
      build_map(config, graph, is_fused ? CheckpointForm::kFused : CheckpointForm::kPublished);
  for (ParameterSlices& parameter : map) {
    for (FileSlice& slice : parameter.slices) {
      if (is_bare) {
        slice.file_name = without_prefix(slice.file_name, family.file_prefix);
      }
      if (present.count(slice.file_name) == 0) {
        throw InputError(where,
                         fmt::format("expected tensor '{}' of the {} model in {}, found none{}; is "
                                     "it a checkpoint of this model?",
                                     slice.file_name,
                                     config.model_type,
                                     config.source,
                                     names.empty() ? " (no tensor at all)" : ""));
      }
      left_over.erase(slice.file_name);
    }
  }
  for (const std::string& name : left_over) {
    const bool is_tied_copy = config.tied_embeddings && name == "lm_head.weight";
    if (!is_tied_copy && !is_old_buffer(name)) {
      throw InputError(where,
                       fmt::format("expected only tensors of the {} model in {}, found '{}'; is it "
                                   "a checkpoint of this model?",
                                   config.model_type,
                                   config.source,
                                   name));
    }
  }
  return map;
}

}  // namespace shardwise
