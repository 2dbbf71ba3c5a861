// ViT (Dosovitskiy et al., ICLR 2021) with its classifier: patches and a class token, norms before
// attention and MLP, the first token's features to the labels.
#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "models/graph_assembler.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  ImageConfig image;
  image.size = reader.size("image_size", kLargestImage);
  image.patch = reader.size("patch_size", kLargestImage);
  image.channels = reader.size("num_channels", kLargestImage);
  image.labels = read_labels(reader);
  if (image.size % image.patch != 0) {
    throw reader.root()
        .at("patch_size")
        .unexpected(fmt::format("a divisor of image_size {}", image.size));
  }
  const std::int64_t side = image.size / image.patch;
  config.image = image;
  config.vocabulary = image.labels;
  config.positions = config.fixed_sequence = side * side + 1;
  config.hidden_size = reader.size("hidden_size");
  config.num_layers = reader.size("num_hidden_layers", kMostLayers);
  config.ffn_width = reader.size("intermediate_size");
  config.num_heads = config.num_kv_heads = reader.size("num_attention_heads");
  if (config.hidden_size % config.num_heads != 0) {
    throw reader.root()
        .at("num_attention_heads")
        .unexpected(fmt::format("a divisor of hidden_size {}", config.hidden_size));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  config.attention_scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  config.causal = false;
  config.norm_epsilon = reader.number("layer_norm_eps", 1e-12, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 100);
  config.activation = read_activation(reader, "hidden_act", "gelu");
  config.query_bias = reader.flag("qkv_bias", true);
  config.output_bias = config.mlp_bias = true;
  reader.dropout("attention_probs_dropout_prob", 0);
  reader.dropout("hidden_dropout_prob", 0);
  reader.ignore({"encoder_stride", "pooler_output_size", "pooler_act"});  // of other heads
  read_sliding_windows(reader, config, 0, 0, LayerTypes::kMustAgree);
  reader.refusals.emplace_back("images");
}

Block embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  const ImageConfig& image = *config.image;
  const double stddev = config.initializer_range;
  const TensorIndex patches = builder.patch_embedding(
      "patch", builder.images(image.channels, image.size), image.patch, config.hidden_size, stddev);
  const TensorIndex tokens = builder.class_token("class", patches, stddev);
  builder.boundary_output(builder.position_embedding("position", tokens, config.positions, stddev));
  return std::move(builder).build();
}

Block encoder(const ModelConfig& config, const BatchShape& shape, const LayerTraits&) {
  BlockBuilder builder("encoder", shape.microbatch, shape.sequence);
  const LoopAxis h{"h", config.hidden_size};
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex attention_in = builder.layer_norm("attention.norm", x, config.norm_epsilon);
  const TensorIndex y =
      builder.add("attention.add",
                  x,
                  self_attention(builder, attention_in, config, 0, config.initializer_range));
  const TensorIndex mlp_in = builder.layer_norm("mlp.norm", y, config.norm_epsilon);
  const TensorIndex down = plain_mlp(builder, "mlp", mlp_in, h, config.ffn_width, config);
  builder.boundary_output(builder.add("mlp.add", y, down));
  return std::move(builder).build();
}

Block head(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("head", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex normed = builder.layer_norm("norm", x, config.norm_epsilon);
  classifier_head(builder, builder.pool("pool", normed, "first"), config.hidden_size, config);
  return std::move(builder).build();
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {embedding, encoder, head}, assembler);
}

// The names that transformers 5 holds; older files have other ones.
std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm) {
  constexpr FileName kLayer[] = {
      {"attention.q", "attention.q_proj", 3},
      {"attention.k", "attention.k_proj", 2},
      {"attention.v", "attention.v_proj", 2},
      {"attention.o", "attention.o_proj", 1},
      {"attention.norm", "layernorm_before", 0},
      {"mlp.norm", "layernorm_after", 0},
      {"mlp.up", "mlp.fc1", 1},
      {"mlp.down", "mlp.fc2", 1},
  };
  constexpr FileName kHead[] = {{"norm", "vit.layernorm", 0}, {"classifier", "classifier", 1}};
  const Tensor& tensor = parameter.tensor;
  const std::string embeddings = "vit.embeddings.";
  std::optional<FileSlice> slice;
  switch (parameter.part) {
    case NamedParameter::Part::kEmbedding: {
      const bool is_patch = tensor.name.starts_with("patch.");
      const std::string kind = tensor.name.substr(tensor.name.rfind('.'));
      slice = whole_tensor(is_patch ? embeddings + "patch_embeddings.projection" + kind
                           : tensor.name == "class.weight" ? embeddings + "cls_token"
                                                           : embeddings + "position_embeddings",
                           tensor,
                           0);
      slice->file_shape = tensor.shape;
      if (!is_patch) {  // one for all images
        slice->file_shape.insert(
            slice->file_shape.begin(), tensor.name == "class.weight" ? 2 : 1, 1);
        slice->leading_size = tensor.shape.front();
      }
      break;
    }
    case NamedParameter::Part::kDecoder:
      slice = find_file_slice(kLayer, tensor, fmt::format("vit.layers.{}.", parameter.decoder));
      break;
    case NamedParameter::Part::kHead:
      slice = find_file_slice(kHead, tensor, "");
      break;
  }
  SHARDWISE_CHECK(slice.has_value(), "no name in files for " + tensor.name);
  return {*slice};
}

}  // namespace

ModelFamily vit_family() {
  return {"vit", "vit.", /*has_fused_form=*/false, read, build, file_slices};
}

}  // namespace shardwise
