// Wide residual networks (Zagoruyko and Komodakis, BMVC 2016) in the shape of ResNet-50 and its
// like (He et al., CVPR 2016): a stem, stages of bottleneck blocks whose inner convolutions are
// `width_factor` times as wide, a mean over the map and a classifier. The configuration is our own:
//
//   {"model_type": "wide_resnet", "image_size": 224, "num_channels": 3, "num_labels": 1000,
//    "depths": [3, 4, 6, 3], "base_width": 64, "width_factor": 2}
//
// is WRN-50-2. Layers: "embedding", "stage.0.layer.0", ..., "head". The sequence is 1.
#include <fmt/format.h>

#include "core/errors.h"
#include "models/graph_assembler.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

constexpr std::int64_t kExpansion = 4;  // output of a bottleneck over its base width

std::vector<std::int64_t> read_depths(ConfigReader& reader) {
  if (!reader.find("depths")) {
    reader.root().at("depths");  // throws
  }
  const JsonValue list = *reader.find("depths");
  std::vector<std::int64_t> depths;
  for (const JsonValue& item : list.items()) {
    depths.push_back(item.as_int64(1, kMostLayers / 16));
  }
  if (depths.empty() || depths.size() > 8) {
    throw list.unexpected("one entry for each of 1 to 8 stages");
  }
  return depths;
}

void read(ConfigReader& reader, ModelConfig& config) {
  ImageConfig image;
  image.size = reader.size("image_size", kLargestImage);
  image.channels = reader.size("num_channels", kLargestImage);
  image.labels = reader.size("num_labels");
  image.depths = read_depths(reader);
  image.width = reader.size("base_width", 1 << 12);
  image.widening = reader.size("width_factor", 1 << 6);
  for (const std::int64_t depth : image.depths) {
    config.num_layers += depth;
  }
  config.hidden_size = (image.width << (image.depths.size() - 1)) * kExpansion;
  config.ffn_width = config.hidden_size * image.widening;
  config.num_heads = config.num_kv_heads = config.head_dim = 1;
  config.vocabulary = image.labels;
  config.positions = config.fixed_sequence = 1;
  config.norm_epsilon = 1e-5;
  config.activation = "relu";
  config.causal = false;
  config.sliding_windows.assign(static_cast<std::size_t>(config.num_layers), 0);
  config.image = image;
  reader.refusals.emplace_back("images");
}

constexpr double kDeviation = 0.02;

TensorIndex conv_norm(BlockBuilder& builder,
                      const std::string& name,
                      TensorIndex x,
                      std::int64_t channels,
                      std::int64_t kernel,
                      std::int64_t stride,
                      const ModelConfig& config) {
  const TensorIndex y = builder.conv2d(name, x, channels, kernel, stride, kDeviation);
  return builder.batch_norm(name + ".norm", y, config.norm_epsilon);
}

Block stem(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  const ImageConfig& image = *config.image;
  const TensorIndex normed = conv_norm(builder,
                                       "stem",
                                       builder.images(image.channels, image.size),
                                       image.width,
                                       /*kernel=*/7,
                                       /*stride=*/2,
                                       config);
  const TensorIndex active = builder.activation("stem.activation", normed, config.activation);
  builder.boundary_output(builder.max_pool("stem.pool", active, /*kernel=*/3, /*stride=*/2));
  return std::move(builder).build();
}

// The map between two blocks.
struct Map {
  std::int64_t channels = 0;
  std::int64_t side = 0;
};

// `width`: of the stage, before widening and expansion.
Block bottleneck(const ModelConfig& config,
                 const BatchShape& shape,
                 const Map& in,
                 std::int64_t width,
                 std::int64_t stride) {
  BlockBuilder builder(
      fmt::format("bottleneck.width{}.stride{}", width, stride), shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input("input",
                                               {{"c", in.channels},
                                                {"y", in.side, AxisSharding::kNever},
                                                {"x", in.side, AxisSharding::kNever}});
  const std::int64_t inner = width * config.image->widening;
  const std::int64_t out = width * kExpansion;
  TensorIndex y = conv_norm(builder, "conv1", x, inner, 1, 1, config);
  y = builder.activation("conv1.activation", y, config.activation);
  y = conv_norm(builder, "conv2", y, inner, 3, stride, config);
  y = builder.activation("conv2.activation", y, config.activation);
  y = conv_norm(builder, "conv3", y, out, 1, 1, config);
  const bool keeps_shape = in.channels == out && stride == 1;
  const TensorIndex shortcut =
      keeps_shape ? x : conv_norm(builder, "shortcut", x, out, 1, stride, config);
  builder.boundary_output(
      builder.activation("activation", builder.add("add", y, shortcut), config.activation));
  return std::move(builder).build();
}

Block head(const ModelConfig& config, const BatchShape& shape, const Map& in) {
  BlockBuilder builder("head", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input("input",
                                               {{"c", in.channels},
                                                {"y", in.side, AxisSharding::kNever},
                                                {"x", in.side, AxisSharding::kNever}});
  classifier_head(builder, builder.global_pool("pool", x), in.channels, config);
  return std::move(builder).build();
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  const ImageConfig& image = *config.image;
  const auto half = [](std::int64_t side) { return (side + 1) / 2; };
  assembler.add("embedding", "embedding", [&] { return stem(config, shape); });
  Map map{image.width, half(half(image.size))};
  for (std::size_t s = 0; s < image.depths.size(); ++s) {
    const std::int64_t width = image.width << s;
    for (std::int64_t layer = 0; layer < image.depths[s]; ++layer) {
      const std::int64_t stride = layer == 0 && s > 0 ? 2 : 1;
      assembler.add(fmt::format("stage.{}.layer.{}", s, layer),
                    fmt::format("stage.{}{}", s, layer == 0 ? ".first" : ""),
                    [&] { return bottleneck(config, shape, map, width, stride); });
      map = {width * kExpansion, stride == 2 ? half(map.side) : map.side};
    }
  }
  assembler.add("head", "head", [&] { return head(config, shape, map); });
}

// torchvision's names.
std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm) {
  constexpr FileName kNames[] = {
      {"stem", "conv1", 0},
      {"stem.norm", "bn1", 0},
      {"conv1", "conv1", 0},
      {"conv1.norm", "bn1", 0},
      {"conv2", "conv2", 0},
      {"conv2.norm", "bn2", 0},
      {"conv3", "conv3", 0},
      {"conv3.norm", "bn3", 0},
      {"shortcut", "downsample.0", 0},
      {"shortcut.norm", "downsample.1", 0},
      {"classifier", "fc", 1},
  };
  std::string prefix;
  if (parameter.layer.starts_with("stage.")) {  // "stage.0.layer.1" -> "layer1.1."
    const std::size_t dot = parameter.layer.find('.', 6);
    const std::string_view stage = parameter.layer.substr(6, dot - 6);
    const std::string_view block = parameter.layer.substr(parameter.layer.rfind('.') + 1);
    prefix = fmt::format("layer{}.{}.", std::stoi(std::string(stage)) + 1, block);
  }
  std::optional<FileSlice> slice = find_file_slice(kNames, parameter.tensor, prefix);
  SHARDWISE_CHECK(slice.has_value(), "no name in files for " + parameter.tensor.name);
  if (parameter.tensor.shape.size() == 4) {
    slice->file_shape = parameter.tensor.shape;
  }
  return {*slice};
}

}  // namespace

ModelFamily wide_resnet_family() {
  return {"wide_resnet", "", /*has_fused_form=*/false, read, build, file_slices};
}

}  // namespace shardwise
