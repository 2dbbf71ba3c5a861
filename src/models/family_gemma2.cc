// Gemma 2 (Gemma team, arXiv:2408.00118): llama's layers with norms after attention and MLP too, a
// window in every other layer, capped scores and logits, embeddings scaled by sqrt(hidden), head
// tied to the embedding.
#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "models/family_llama.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  read_llama_keys(reader, config, {.head_dim_required = true, .has_attention_bias = true});
  config.tied_embeddings = reader.flag("tie_word_embeddings", true);
  config.activation = read_activation(reader, "hidden_activation", "gelu_pytorch_tanh");
  config.attention_scale = 1 / std::sqrt(reader.number("query_pre_attn_scalar", 256, 1e-6, 1e12));
  config.attention_softcap = reader.contains("attn_logit_softcapping")
                                 ? reader.number("attn_logit_softcapping", 0, 1e-6, 1e12)
                                 : 50;
  config.final_softcap = reader.contains("final_logit_softcapping")
                             ? reader.number("final_logit_softcapping", 0, 1e-6, 1e12)
                             : 30;
  reader.require_flag("use_bidirectional_attention", false, "only decoders can be read");
  reader.ignore({"cache_implementation"});
  const std::int64_t absent = reader.contains("sliding_window") ? 0 : 4096;
  const std::int64_t window = reader.size_or("sliding_window", absent);
  read_sliding_windows(reader, config, window, config.num_layers, LayerTypes::kDecide);
  if (!reader.find("layer_types")) {
    for (std::size_t layer = 0; layer < config.sliding_windows.size(); layer += 2) {
      config.sliding_windows[layer] = window;
    }
  }
  reader.refusals.emplace_back("gemma2's norms, which multiply by 1 + weight");
}

Block embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.embedding(
      "token", builder.tokens(), config.vocabulary, config.hidden_size, config.initializer_range);
  builder.boundary_output(builder.activation("scale", x, "scale"));
  return std::move(builder).build();
}

Block decoder(const ModelConfig& config, const BatchShape& shape, const LayerTraits& traits) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const double epsilon = config.norm_epsilon;
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex attention_in = builder.rms_norm("attention.norm", x, epsilon);
  const TensorIndex attended = self_attention(
      builder, attention_in, config, traits.sliding_window, config.initializer_range);
  const TensorIndex y =
      builder.add("attention.add", x, builder.rms_norm("attention.post_norm", attended, epsilon));
  const TensorIndex mlp_in = builder.rms_norm("mlp.norm", y, epsilon);
  const TensorIndex mixed = gated_mlp(builder, "mlp", mlp_in, config.ffn_width, config);
  builder.boundary_output(
      builder.add("mlp.add", y, builder.rms_norm("mlp.post_norm", mixed, epsilon)));
  return std::move(builder).build();
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {embedding, decoder, llama_head}, assembler);
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm form) {
  constexpr FileName kNorms[] = {
      {"attention.post_norm", "post_attention_layernorm", 0},
      {"mlp.norm", "pre_feedforward_layernorm", 0},
      {"mlp.post_norm", "post_feedforward_layernorm", 0},
  };
  const std::string prefix = fmt::format("model.layers.{}.", parameter.decoder);
  if (const auto slice = find_file_slice(kNorms, parameter.tensor, prefix)) {
    return {*slice};
  }
  return llama_file_slices(parameter, form);
}

}  // namespace

ModelFamily gemma2_family() {
  return {"gemma2", "model.", /*has_fused_form=*/false, read, build, file_slices};
}

}  // namespace shardwise
