// Swin (Liu et al., ICCV 2021) with its classifier: stages of blocks whose attention stays inside
// windows; between stages four neighbouring patches become one of twice the width. Layers:
// "embedding", "stage.0.layer.0", ..., "stage.0.merge", "stage.1.layer.0", ..., "head".
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/errors.h"
#include "models/graph_assembler.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

std::vector<std::int64_t> read_sizes(ConfigReader& reader, const std::string& key) {
  std::vector<std::int64_t> sizes;
  const std::optional<JsonValue> list = reader.find(key);
  if (!list) {
    reader.root().at(key);  // throws
  }
  for (const JsonValue& item : list->items()) {
    sizes.push_back(item.as_int64(1, kMostLayers));
  }
  if (sizes.empty() || sizes.size() > 16) {
    throw list->unexpected("one entry for each of 1 to 16 stages");
  }
  return sizes;
}

// One stage's numbers.
struct Stage {
  std::int64_t side = 0;  // patches
  std::int64_t width = 0;
  std::int64_t heads = 0;
  std::int64_t window = 0;  // a window as large as the stage is not shifted
};

Stage stage_of(const ImageConfig& image, std::size_t stage) {
  Stage result;
  result.side = (image.size / image.patch) >> stage;
  result.width = image.width << stage;
  result.heads = image.heads[stage];
  result.window = std::min(image.window, result.side);
  return result;
}

void check_stages(ConfigReader& reader, const ImageConfig& image) {
  if (image.depths.size() != image.heads.size()) {
    throw reader.root()
        .at("num_heads")
        .unexpected(fmt::format("one number for each of {} stages", image.depths.size()));
  }
  const std::int64_t halvings = std::int64_t{1} << (image.depths.size() - 1);
  if (image.size % (image.patch * halvings) != 0) {
    throw reader.root()
        .at("image_size")
        .unexpected(fmt::format("a multiple of patch_size {} times {} (stages halve its sides)",
                                image.patch,
                                halvings));
  }
  for (std::size_t stage = 0; stage < image.depths.size(); ++stage) {
    const Stage sizes = stage_of(image, stage);
    if (sizes.width % sizes.heads != 0 || sizes.width > kLargestSize) {
      throw reader.root()
          .at("num_heads")
          .unexpected(
              fmt::format("divisors of the stages' widths, {} in stage {}", sizes.width, stage));
    }
    if (sizes.side % sizes.window != 0) {
      throw reader.root()
          .at("window_size")
          .unexpected(
              fmt::format("a divisor of the patches of a side, {} in stage {}", sizes.side, stage),
              "windows that need padding are not supported");
    }
  }
}

void read(ConfigReader& reader, ModelConfig& config) {
  ImageConfig image;
  image.size = reader.size("image_size", kLargestImage);
  image.patch = reader.size("patch_size", kLargestImage);
  image.channels = reader.size("num_channels", kLargestImage);
  image.window = reader.size("window_size", kLargestImage);
  image.width = reader.size("embed_dim");
  image.depths = read_sizes(reader, "depths");
  image.heads = read_sizes(reader, "num_heads");
  image.mlp_ratio = reader.number("mlp_ratio", 4, 0.01, 100);
  image.labels = read_labels(reader);
  check_stages(reader, image);
  config.num_layers = 0;
  for (const std::int64_t depth : image.depths) {
    config.num_layers += depth;
  }
  if (config.num_layers > kMostLayers) {
    throw reader.root().at("depths").unexpected(fmt::format("at most {} blocks", kMostLayers));
  }
  const Stage last = stage_of(image, image.depths.size() - 1);
  const std::int64_t side = image.size / image.patch;
  config.fixed_sequence = config.positions = side * side;
  config.hidden_size = last.width;
  config.num_heads = config.num_kv_heads = last.heads;
  config.head_dim = last.width / last.heads;
  config.ffn_width = static_cast<std::int64_t>(image.mlp_ratio * static_cast<double>(last.width));
  config.vocabulary = image.labels;
  config.causal = false;
  config.norm_epsilon = reader.number("layer_norm_eps", 1e-5, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 100);
  config.activation = read_activation(reader, "hidden_act", "gelu");
  config.query_bias = reader.flag("qkv_bias", true);
  config.output_bias = config.mlp_bias = true;
  reader.require_flag("use_absolute_embeddings", false, "absolute positions are not supported");
  reader.dropout("attention_probs_dropout_prob", 0);
  reader.dropout("hidden_dropout_prob", 0);
  reader.dropout("drop_path_rate", 0.1);
  const auto expect = [&reader](const char* key, std::int64_t size) {
    if (const auto value = reader.find(key); value && value->as_int64() != size) {
      throw value->unexpected(fmt::format("{}, as depths and embed_dim say", size));
    }
  };
  expect("hidden_size", last.width);
  expect("num_layers", static_cast<std::int64_t>(image.depths.size()));
  // Of other heads; the patches' norm is there whatever `path_norm` says.
  reader.ignore({"encoder_stride",
                 "path_norm",
                 "patch_norm",
                 "out_features",
                 "out_indices",
                 "_out_features",
                 "_out_indices",
                 "stage_names"});
  config.sliding_windows.assign(static_cast<std::size_t>(config.num_layers), 0);
  config.image = image;
  reader.refusals.emplace_back("images");
}

Block embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  const ImageConfig& image = *config.image;
  const TensorIndex x = builder.patch_embedding("patch",
                                                builder.images(image.channels, image.size),
                                                image.patch,
                                                image.width,
                                                config.initializer_range);
  builder.boundary_output(builder.layer_norm("norm", x, config.norm_epsilon));
  return std::move(builder).build();
}

Block window_block(const ModelConfig& config, const BatchShape& shape, const Stage& stage) {
  BlockBuilder builder(
      fmt::format("encoder.width{}", stage.width), shape.microbatch, stage.side * stage.side);
  const double stddev = config.initializer_range;
  const LoopAxis h{"h", stage.width};
  const LoopAxis n{"n", stage.heads};
  const LoopAxis d{"d", stage.width / stage.heads, AxisSharding::kNever};
  const bool bias = config.query_bias;
  const TensorIndex x = builder.boundary_input(stage.width);
  const TensorIndex normed = builder.layer_norm("attention.norm", x, config.norm_epsilon);
  const TensorIndex q = builder.linear("attention.q", normed, {h}, {n, d}, bias, stddev);
  const TensorIndex k = builder.linear("attention.k", normed, {h}, {n, d}, bias, stddev);
  const TensorIndex v = builder.linear("attention.v", normed, {h}, {n, d}, bias, stddev);
  const TensorIndex mixed =
      builder.window_attention("attention.core", q, k, v, stage.window, stddev);
  const TensorIndex attended = builder.linear("attention.o", mixed, {n, d}, {h}, true, stddev);
  const TensorIndex y = builder.add("attention.add", x, attended);
  const TensorIndex mlp_in = builder.layer_norm("mlp.norm", y, config.norm_epsilon);
  const auto width =
      static_cast<std::int64_t>(config.image->mlp_ratio * static_cast<double>(stage.width));
  builder.boundary_output(
      builder.add("mlp.add", y, plain_mlp(builder, "mlp", mlp_in, h, width, config)));
  return std::move(builder).build();
}

Block merge(const ModelConfig& config, const BatchShape& shape, const Stage& stage) {
  BlockBuilder builder(
      fmt::format("merge.width{}", stage.width), shape.microbatch, stage.side * stage.side);
  const TensorIndex squares = builder.patch_merge("squares", builder.boundary_input(stage.width));
  const TensorIndex normed = builder.layer_norm("norm", squares, config.norm_epsilon);
  builder.boundary_output(builder.linear("reduction",
                                         normed,
                                         {{"h", 4 * stage.width}},
                                         {{"h", 2 * stage.width}},
                                         /*bias=*/false,
                                         config.initializer_range));
  return std::move(builder).build();
}

Block head(const ModelConfig& config, const BatchShape& shape, const Stage& last) {
  BlockBuilder builder("head", shape.microbatch, last.side * last.side);
  const TensorIndex x = builder.boundary_input(last.width);
  const TensorIndex normed = builder.layer_norm("norm", x, config.norm_epsilon);
  classifier_head(builder, builder.pool("pool", normed, "mean"), last.width, config);
  return std::move(builder).build();
}

// Blocks with shifted windows do the same work as those without.
void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  const ImageConfig& image = *config.image;
  assembler.add("embedding", "embedding", [&] { return embedding(config, shape); });
  for (std::size_t s = 0; s < image.depths.size(); ++s) {
    const Stage stage = stage_of(image, s);
    for (std::int64_t layer = 0; layer < image.depths[s]; ++layer) {
      assembler.add(fmt::format("stage.{}.layer.{}", s, layer), fmt::format("stage.{}", s), [&] {
        return window_block(config, shape, stage);
      });
    }
    if (s + 1 < image.depths.size()) {
      const std::string name = fmt::format("stage.{}.merge", s);
      assembler.add(name, name, [&] { return merge(config, shape, stage); });
    }
  }
  const Stage last = stage_of(image, image.depths.size() - 1);
  assembler.add("head", "head", [&] { return head(config, shape, last); });
}

// "stage.1.layer.2" -> "swin.encoder.layers.1.blocks.2." and so for merges.
std::string module_of(std::string_view layer) {
  std::string name = "swin.encoder." + std::string(layer) + ".";
  const auto replace = [&name](std::string_view from, std::string_view to) {
    if (const std::size_t at = name.find(from); at != std::string::npos) {
      name.replace(at, from.size(), to);
    }
  };
  replace(".layer.", ".blocks.");
  replace(".stage.", ".layers.");
  replace(".merge.", ".downsample.");
  return name;
}

// The names that transformers 5 holds; older files have other ones.
std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm) {
  constexpr FileName kLayer[] = {
      {"attention.q", "attention.q_proj", 2},
      {"attention.k", "attention.k_proj", 2},
      {"attention.v", "attention.v_proj", 2},
      {"attention.o", "attention.o_proj", 1},
      {"attention.norm", "layernorm_before", 0},
      {"mlp.norm", "layernorm_after", 0},
      {"mlp.up", "mlp.fc1", 1},
      {"mlp.down", "mlp.fc2", 1},
      {"norm", "norm", 0},  // merges
      {"reduction", "reduction", 1},
  };
  constexpr FileName kHead[] = {{"norm", "swin.layernorm", 0}, {"classifier", "classifier", 1}};
  constexpr FileName kEmbedding[] = {{"norm", "swin.embeddings.norm", 0}};
  const Tensor& tensor = parameter.tensor;
  const std::string module = module_of(parameter.layer);
  std::optional<FileSlice> slice;
  if (tensor.name == "attention.core.bias") {
    slice = whole_tensor(
        module + "attention.relative_position_bias.relative_position_bias_table", tensor, 1);
  } else if (tensor.name.starts_with("patch.")) {
    slice = whole_tensor(
        "swin.embeddings.patch_embeddings.projection" + tensor.name.substr(5), tensor, 0);
    slice->file_shape = tensor.shape;
  } else if (parameter.layer == "embedding") {
    slice = find_file_slice(kEmbedding, tensor, "");
  } else {
    slice = parameter.layer == "head" ? find_file_slice(kHead, tensor, "")
                                      : find_file_slice(kLayer, tensor, module);
  }
  SHARDWISE_CHECK(slice.has_value(), "no name in files for " + tensor.name);
  return {*slice};
}

}  // namespace

ModelFamily swin_family() {
  return {"swin", "swin.", /*has_fused_form=*/false, read, build, file_slices};
}

}  // namespace shardwise
