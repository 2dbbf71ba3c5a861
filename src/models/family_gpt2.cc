// GPT-2 (Radford et al., 2019) as transformers' GPT2LMHeadModel: learned positions, layer norms
// before attention and MLP, biases everywhere, head tied to the embedding.
//
// In files its linears are Conv1D: matrices [in, out], transposed against ours, and q, k, v lie
// side by side in c_attn [hidden, 3 hidden].
#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "models/graph_assembler.h"
#include "models/model_family.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  config.hidden_size = reader.size("n_embd");
  config.num_layers = reader.size("n_layer", kMostLayers);
  config.num_heads = reader.size("n_head");
  config.num_kv_heads = config.num_heads;
  config.vocabulary = reader.size("vocab_size", kLargestTable);
  config.positions = reader.size("n_positions", kLargestTable);
  config.ffn_width = reader.size_or("n_inner", 4 * config.hidden_size);
  if (config.hidden_size % config.num_heads != 0) {
    throw reader.root().at("n_head").unexpected(
        fmt::format("a divisor of n_embd {}", config.hidden_size));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  config.tied_embeddings = reader.flag("tie_word_embeddings", true);
  config.norm_epsilon = reader.number("layer_norm_epsilon", 1e-5, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 100);
  config.activation = read_activation(reader, "activation_function", "gelu_new");
  config.query_bias = config.output_bias = config.mlp_bias = true;
  const bool scales = reader.flag("scale_attn_weights", true);
  config.attention_scale = scales ? 1 / std::sqrt(static_cast<double>(config.head_dim)) : 1;
  reader.require_flag("scale_attn_by_inverse_layer_idx",
                      false,
                      "scores that shrink with the layer are not supported");
  if (reader.flag("reorder_and_upcast_attn", false)) {
    reader.refusals.emplace_back("reorder_and_upcast_attn true");
  }
  reader.ignore({"n_ctx"});  // once the size of the causal mask; nothing reads it
  reader.dropout("attn_pdrop", 0.1);
  reader.dropout("embd_pdrop", 0.1);
  reader.dropout("resid_pdrop", 0.1);
  read_sliding_windows(reader, config, 0, 0, LayerTypes::kMustAgree);
}

Block embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.embedding(
      "token", builder.tokens(), config.vocabulary, config.hidden_size, config.initializer_range);
  builder.boundary_output(
      builder.position_embedding("position", x, config.positions, config.initializer_range));
  return std::move(builder).build();
}

Block decoder(const ModelConfig& config, const BatchShape& shape, const LayerTraits& traits) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const LoopAxis h{"h", config.hidden_size};
  const LoopAxis f{"f", config.ffn_width};
  const double stddev = config.initializer_range;
  // Both projections onto the residual stream start smaller, by 1 / sqrt(number of them).
  const double residual = stddev / std::sqrt(2.0 * static_cast<double>(config.num_layers));

  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex normed = builder.layer_norm("attention.norm", x, config.norm_epsilon);
  const TensorIndex attended =
      self_attention(builder, normed, config, traits.sliding_window, residual);
  const TensorIndex y = builder.add("attention.add", x, attended);
  const TensorIndex mlp_in = builder.layer_norm("mlp.norm", y, config.norm_epsilon);
  const TensorIndex up = builder.linear("mlp.up", mlp_in, {h}, {f}, config.mlp_bias, stddev);
  const TensorIndex active = builder.activation("mlp.activation", up, config.activation);
  const TensorIndex down = builder.linear("mlp.down", active, {f}, {h}, config.mlp_bias, residual);
  builder.boundary_output(builder.add("mlp.add", y, down));
  return std::move(builder).build();
}

Block head(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("head", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  language_model_head(builder, builder.layer_norm("norm", x, config.norm_epsilon), config);
  return std::move(builder).build();
}

// Our [out.., in..] with the first `out_dims` dimensions as outputs, the file's [in, out].
FileSlice transposed(const std::string& file_name, const Tensor& tensor, int out_dims) {
  FileSlice slice = whole_tensor(file_name, tensor, out_dims);
  std::swap(slice.file_shape[0], slice.file_shape[1]);
  slice.transposed = true;
  return slice;
}

// q, k and v (`part` 0, 1, 2) share a matrix, three times as wide as each.
FileSlice fused(FileSlice slice, std::int64_t part) {
  std::int64_t& width = slice.file_shape.back();
  slice.row_offset = part * width;
  width *= 3;
  return slice;
}

std::vector<FileSlice> decoder_slices(const NamedParameter& parameter) {
  struct Name {
    std::string_view ours, theirs;
    int out_dims;  // 0: a vector
    int part;      // of a fused tensor, or -1
  };
  constexpr Name kNames[] = {
      {"attention.norm.weight", "ln_1.weight", 0, -1},
      {"attention.norm.bias", "ln_1.bias", 0, -1},
      {"attention.q.weight", "attn.c_attn.weight", 3, 0},
      {"attention.q.bias", "attn.c_attn.bias", 0, 0},
      {"attention.k.weight", "attn.c_attn.weight", 2, 1},
      {"attention.k.bias", "attn.c_attn.bias", 0, 1},
      {"attention.v.weight", "attn.c_attn.weight", 2, 2},
      {"attention.v.bias", "attn.c_attn.bias", 0, 2},
      {"attention.o.weight", "attn.c_proj.weight", 1, -1},
      {"attention.o.bias", "attn.c_proj.bias", 0, -1},
      {"mlp.norm.weight", "ln_2.weight", 0, -1},
      {"mlp.norm.bias", "ln_2.bias", 0, -1},
      {"mlp.up.weight", "mlp.c_fc.weight", 1, -1},
      {"mlp.up.bias", "mlp.c_fc.bias", 0, -1},
      {"mlp.down.weight", "mlp.c_proj.weight", 1, -1},
      {"mlp.down.bias", "mlp.c_proj.bias", 0, -1},
  };
  for (const Name& name : kNames) {
    if (name.ours == parameter.tensor.name) {
      const std::string file_name =
          fmt::format("transformer.h.{}.{}", parameter.decoder, name.theirs);
      const FileSlice slice = name.out_dims == 0
                                  ? whole_tensor(file_name, parameter.tensor, 0)
                                  : transposed(file_name, parameter.tensor, name.out_dims);
      return {name.part < 0 ? slice : fused(slice, name.part)};
    }
  }
  SHARDWISE_CHECK(false, "no name in files for " + parameter.tensor.name);
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm) {
  const std::string& name = parameter.tensor.name;
  switch (parameter.part) {
    case NamedParameter::Part::kEmbedding:
      return {
          whole_tensor(name == "token.weight" ? "transformer.wte.weight" : "transformer.wpe.weight",
                       parameter.tensor,
                       1)};
    case NamedParameter::Part::kDecoder:
      return decoder_slices(parameter);
    case NamedParameter::Part::kHead:
      if (name == "linear.weight") {
        return {whole_tensor("lm_head.weight", parameter.tensor, 1)};
      }
      return {whole_tensor(
          "transformer.ln_f." + name.substr(name.rfind('.') + 1), parameter.tensor, 0)};
  }
  SHARDWISE_CHECK(false, "unknown part of a model");
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {embedding, decoder, head}, assembler);
}

}  // namespace

ModelFamily gpt2_family() { return {"gpt2", "transformer.", false, read, build, file_slices}; }

}  // namespace shardwise
