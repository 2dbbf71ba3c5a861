// Ops of image models: axes only (block_builder.h).
#include <utility>

#include "core/errors.h"
#include "graph/block_builder.h"
#include "graph/op_axes.h"

namespace shardwise {

using builder::at;
using builder::OpAxes;
using builder::whole;

namespace {

LoopAxis never(const std::string& name, std::int64_t size) {
  return {name, size, AxisSharding::kNever};
}

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

TensorIndex BlockBuilder::images(std::int64_t channels, std::int64_t size) {
  const TensorIndex index = add_activation(
      "images", {batch_axis(), never("c", channels), never("y", size), never("x", size)});
  block_.tensors[at(index)].kind = TensorKind::kImages;
  return index;
}

TensorIndex BlockBuilder::patch_embedding(const std::string& op_name,
                                          TensorIndex images,
                                          std::int64_t patch,
                                          std::int64_t width,
                                          double stddev) {
  const Axes& pixels = dims_[at(images)];
  const std::int64_t side = pixels[2].size / patch;
  const LoopAxis b = pixels[0];
  const LoopAxis c = pixels[1];
  const LoopAxis yy = never("yy", pixels[2].size);
  const LoopAxis xx = never("xx", pixels[3].size);
  const LoopAxis s{"s", side * side, AxisSharding::kEven};
  const LoopAxis h{"h", width, AxisSharding::kEven};
  const TensorIndex weight = add_parameter(
      op_name + ".weight", {width, c.size, patch, patch}, Initializer::kNormal, stddev, true);
  const TensorIndex bias = add_parameter(op_name + ".bias", {width}, Initializer::kZeros, 0, false);
  const TensorIndex out = add_activation(op_name, {b, s, h});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kPatchEmbedding;
  op.name = op_name;
  op.inputs = {{images, axes.dims({b, c, yy, xx})}};
  op.parameters = {{weight, axes.dims({h, c, never("k", patch), never("l", patch)})},
                   {bias, axes.dims({h})}};
  op.outputs = {{out, axes.dims({b, s, h})}};
  op.axes = axes.take();
  op.attributes.stride = patch;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::class_token(const std::string& op_name, TensorIndex x, double stddev) {
  const Axes x_axes = dims_[at(x)];
  const LoopAxis& b = x_axes[0];
  const LoopAxis& h = x_axes[2];
  const std::int64_t tokens = x_axes[1].size;
  const TensorIndex token =
      add_parameter(op_name + ".weight", {h.size}, Initializer::kNormal, stddev, true);
  const TensorIndex out = add_activation(op_name, {b, {"s", tokens + 1, AxisSharding::kEven}, h});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kClassToken;
  op.name = op_name;
  op.inputs = {{x, axes.dims({b, never("u", tokens), h})}};
  op.parameters = {{token, axes.dims({h})}};
  op.outputs = {{out, axes.dims({b, never("s", tokens + 1), h})}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::patch_merge(const std::string& op_name, TensorIndex x) {
  const Axes x_axes = dims_[at(x)];
  const LoopAxis& b = x_axes[0];
  const std::int64_t tokens = x_axes[1].size / 4;
  const std::int64_t width = x_axes[2].size * 4;
  const TensorIndex out = add_activation(
      op_name, {b, {"s", tokens, AxisSharding::kEven}, {"h", width, AxisSharding::kEven}});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kPatchMerge;
  op.name = op_name;
  op.inputs = {{x, axes.dims({b, never("u", x_axes[1].size), whole(x_axes[2])})}};
  op.outputs = {{out, axes.dims({b, never("s", tokens), never("m", width)})}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::pool(const std::string& op_name,
                               TensorIndex x,
                               const std::string& function) {
  Axes x_axes = dims_[at(x)];
  x_axes[1] = whole(x_axes[1]);
  const TensorIndex out = add_activation(op_name, {x_axes[0], never("s", 1), x_axes[2]});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kPool;
  op.name = op_name;
  op.inputs = {{x, axes.dims(x_axes)}};
  op.outputs = {{out, axes.dims({x_axes[0], never("o", 1), x_axes[2]})}};
  op.axes = axes.take();
  op.attributes.function = function;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::global_pool(const std::string& op_name, TensorIndex x) {
  const Axes x_axes = dims_[at(x)];
  const LoopAxis& c = x_axes[1];
  const TensorIndex out =
      add_activation(op_name, {x_axes[0], never("s", 1), {"h", c.size, AxisSharding::kEven}});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kGlobalPool;
  op.name = op_name;
  op.inputs = {{x, axes.dims(x_axes)}};
  op.outputs = {{out, axes.dims({x_axes[0], never("o", 1), c})}};
  op.axes = axes.take();
  op.attributes.function = "mean";
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::conv2d(const std::string& op_name,
                                 TensorIndex x,
                                 std::int64_t channels,
                                 std::int64_t kernel,
                                 std::int64_t stride,
                                 double stddev) {
  const Axes x_axes = dims_[at(x)];
  const LoopAxis& b = x_axes[0];
  const LoopAxis& c = x_axes[1];
  const LoopAxis o{"o", channels, AxisSharding::kEven};
  const LoopAxis y = never("y", divide_up(x_axes[2].size, stride));
  const LoopAxis columns = never("x", divide_up(x_axes[3].size, stride));
  const TensorIndex weight = add_parameter(
      op_name + ".weight", {channels, c.size, kernel, kernel}, Initializer::kNormal, stddev, true);
  const TensorIndex out =
      add_activation(op_name, {b, {"c", channels, AxisSharding::kEven}, y, columns});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kConv2d;
  op.name = op_name;
  op.inputs = {{x, axes.dims({b, c, never("yy", x_axes[2].size), never("xx", x_axes[3].size)})}};
  op.parameters = {{weight, axes.dims({o, c, never("k", kernel), never("l", kernel)})}};
  op.outputs = {{out, axes.dims({b, o, y, columns})}};
  op.axes = axes.take();
  op.attributes.stride = stride;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::batch_norm(const std::string& op_name, TensorIndex x, double epsilon) {
  const Axes x_axes = dims_[at(x)];
  const LoopAxis& c = x_axes[1];
  const TensorIndex weight =
      add_parameter(op_name + ".weight", {c.size}, Initializer::kOnes, 0, false);
  const TensorIndex bias =
      add_parameter(op_name + ".bias", {c.size}, Initializer::kZeros, 0, false);
  const TensorIndex out = add_activation(op_name, x_axes);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kBatchNorm;
  op.name = op_name;
  op.inputs = {{x, axes.dims(x_axes)}};
  op.parameters = {{weight, axes.dims({c})}, {bias, axes.dims({c})}};
  op.outputs = {{out, axes.dims(x_axes)}};
  op.axes = axes.take();
  op.attributes.epsilon = epsilon;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::max_pool(const std::string& op_name,
                                   TensorIndex x,
                                   std::int64_t kernel,
                                   std::int64_t stride) {
  const Axes x_axes = dims_[at(x)];
  const LoopAxis& b = x_axes[0];
  const LoopAxis& c = x_axes[1];
  const LoopAxis y = never("y", divide_up(x_axes[2].size, stride));
  const LoopAxis columns = never("x", divide_up(x_axes[3].size, stride));
  const TensorIndex out = add_activation(op_name, {b, c, y, columns});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kMaxPool;
  op.name = op_name;
  op.inputs = {{x, axes.dims({b, c, never("yy", x_axes[2].size), never("xx", x_axes[3].size)})}};
  op.outputs = {{out, axes.dims({b, c, y, columns})}};
  op.axes = axes.take();
  op.attributes.window = kernel;
  op.attributes.stride = stride;
  block_.ops.push_back(std::move(op));
  return out;
}

}  // namespace shardwise
