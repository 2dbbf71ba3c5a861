#include "graph/block_builder.h"

#include <utility>

#include "core/errors.h"
#include "graph/op_axes.h"

namespace shardwise {

using builder::at;
using builder::joined;
using builder::OpAxes;
using builder::shape_of;
using builder::whole;

BlockBuilder::BlockBuilder(std::string block_name, std::int64_t microbatch, std::int64_t sequence)
    : microbatch_(microbatch), sequence_(sequence) {
  block_.name = std::move(block_name);
}

TensorIndex BlockBuilder::add_tensor(Tensor tensor) {
  block_.tensors.push_back(std::move(tensor));
  dims_.emplace_back();
  return static_cast<TensorIndex>(block_.tensors.size()) - 1;
}

TensorIndex BlockBuilder::add_activation(const std::string& name, std::vector<LoopAxis> axes) {
  Tensor tensor;
  tensor.name = name;
  tensor.shape = shape_of(axes);
  const TensorIndex index = add_tensor(std::move(tensor));
  dims_[at(index)] = std::move(axes);
  return index;
}

TensorIndex BlockBuilder::add_integers(const std::string& name,
                                       TensorKind kind,
                                       std::vector<LoopAxis> axes) {
  const TensorIndex index = add_activation(name, std::move(axes));
  block_.tensors[at(index)].kind = kind;
  block_.tensors[at(index)].type = ElementType::kInt64;
  return index;
}

TensorIndex BlockBuilder::add_parameter(const std::string& name,
                                        std::vector<std::int64_t> shape,
                                        Initializer initializer,
                                        double stddev,
                                        bool decays) {
  Tensor tensor;
  tensor.name = name;
  tensor.kind = TensorKind::kParameter;
  tensor.shape = std::move(shape);
  tensor.initializer = initializer;
  tensor.stddev = stddev;
  tensor.decays = decays;
  return add_tensor(std::move(tensor));
}

LoopAxis BlockBuilder::batch_axis() const { return {"b", microbatch_, AxisSharding::kEven}; }
LoopAxis BlockBuilder::sequence_axis() const { return {"s", sequence_, AxisSharding::kEven}; }

TensorIndex BlockBuilder::boundary_input(std::int64_t width) {
  return boundary_input("input", {sequence_axis(), {"h", width, AxisSharding::kEven}});
}

TensorIndex BlockBuilder::boundary_input(const std::string& name, const Axes& axes) {
  const TensorIndex index = add_activation(name, joined({batch_axis()}, axes));
  block_.inputs.push_back(index);
  return index;
}

TensorIndex BlockBuilder::tokens(const std::string& name) {
  return add_integers(name, TensorKind::kTokens, {batch_axis(), sequence_axis()});
}

TensorIndex BlockBuilder::token_pairs() {
  return add_integers("tokens", TensorKind::kTokens, {batch_axis(), sequence_axis(), pair_axis()});
}

TensorIndex BlockBuilder::targets() {
  return add_integers("targets", TensorKind::kTargets, {batch_axis(), sequence_axis()});
}

TensorIndex BlockBuilder::labels() {
  return add_integers(
      "labels", TensorKind::kTargets, {batch_axis(), {"s", 1, AxisSharding::kNever}});
}

void BlockBuilder::boundary_output(TensorIndex tensor) { block_.outputs.push_back(tensor); }

TensorIndex BlockBuilder::embedding(const std::string& op_name,
                                    TensorIndex tokens,
                                    std::int64_t vocabulary,
                                    std::int64_t width,
                                    double stddev) {
  const LoopAxis v{"v", vocabulary, AxisSharding::kPadded};
  const LoopAxis h{"h", width, AxisSharding::kEven};
  const TensorIndex table =
      add_parameter(op_name + ".weight", {vocabulary, width}, Initializer::kNormal, stddev, true);
  const TensorIndex out = add_activation(op_name, joined(dims_[at(tokens)], {h}));
  OpAxes axes;
  Op op;
  op.kind = OpKind::kEmbedding;
  op.name = op_name;
  op.inputs = {{tokens, axes.dims(dims_[at(tokens)])}};
  op.parameters = {{table, axes.dims({v, h})}};
  op.outputs = {{out, axes.dims(dims_[at(out)])}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::position_embedding(const std::string& op_name,
                                             TensorIndex x,
                                             std::int64_t positions,
                                             double stddev) {
  const std::vector<LoopAxis> x_axes = dims_[at(x)];
  const LoopAxis& h = x_axes.back();
  const TensorIndex table =
      add_parameter(op_name + ".weight", {positions, h.size}, Initializer::kNormal, stddev, true);
  const TensorIndex out = add_activation(op_name, x_axes);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kPositionEmbedding;
  op.name = op_name;
  op.inputs = {{x, axes.dims(x_axes)}};
  op.parameters = {{table, {{}, {axes.index(h)}}}};
  op.outputs = {{out, axes.dims(x_axes)}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::linear(const std::string& op_name,
                                 TensorIndex x,
                                 const Axes& in,
                                 const Axes& out,
                                 bool bias,
                                 double stddev) {
  Axes result_axes = out;
  for (LoopAxis& axis : result_axes) {
    // An axis name that both sides have (hidden to hidden) means two different loops.
    for (const LoopAxis& other : in) {
      if (axis.name == other.name) {
        axis.name += "_out";
      }
    }
  }
  const TensorIndex weight = add_parameter(
      op_name + ".weight", shape_of(joined(out, in)), Initializer::kNormal, stddev, true);
  const Axes lead{dims_[at(x)][0], dims_[at(x)][1]};
  OpAxes axes;
  Op op;
  op.kind = OpKind::kLinear;
  op.name = op_name;
  op.inputs = {{x, axes.dims(joined(lead, in))}};
  op.parameters = {{weight, axes.dims(joined(result_axes, in))}};
  if (bias) {
    const TensorIndex b =
        add_parameter(op_name + ".bias", shape_of(out), Initializer::kZeros, 0, false);
    op.parameters.push_back({b, axes.dims(result_axes), /*epilogue=*/true});
  }
  const TensorIndex y = add_activation(op_name, joined(lead, out));
  op.outputs = {{y, axes.dims(joined(lead, result_axes))}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return y;
}

TensorIndex BlockBuilder::attention(const std::string& op_name,
                                    TensorIndex q,
                                    TensorIndex k,
                                    TensorIndex v,
                                    const AttentionSettings& settings) {
  Axes q_axes = dims_[at(q)];  // b s n r d
  SHARDWISE_CHECK(q_axes.size() == 5, op_name + ": queries are [b, s, n, r, d]");
  q_axes[4] = whole(q_axes[4]);
  // Keys may be another sequence's (cross-attention).
  const LoopAxis t{"t", dims_[at(k)][1].size, AxisSharding::kNever};
  const Axes k_axes{q_axes[0], t, q_axes[2], q_axes[4]};
  const TensorIndex out = add_activation(op_name, q_axes);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kAttention;
  op.name = op_name;
  op.inputs = {{q, axes.dims(q_axes)}, {k, axes.dims(k_axes)}, {v, axes.dims(k_axes)}};
  op.outputs = {{out, axes.dims(q_axes)}};
  op.axes = axes.take();
  op.attributes.causal = settings.causal;
  op.attributes.scale = settings.scale;
  op.attributes.sliding_window = settings.sliding_window;
  op.attributes.softcap = settings.softcap;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::layer_norm(const std::string& op_name, TensorIndex x, double epsilon) {
  return norm(OpKind::kLayerNorm, op_name, x, epsilon);
}

TensorIndex BlockBuilder::rms_norm(const std::string& op_name, TensorIndex x, double epsilon) {
  return norm(OpKind::kRmsNorm, op_name, x, epsilon);
}

TensorIndex BlockBuilder::norm(OpKind kind,
                               const std::string& op_name,
                               TensorIndex x,
                               double epsilon) {
  Axes x_axes = dims_[at(x)];
  x_axes.back() = whole(x_axes.back());
  const LoopAxis width = x_axes.back();
  const TensorIndex weight =
      add_parameter(op_name + ".weight", {width.size}, Initializer::kOnes, 0, false);
  OpAxes axes;
  Op op;
  op.kind = kind;
  op.name = op_name;
  op.inputs = {{x, axes.dims(x_axes)}};
  op.parameters = {{weight, axes.dims({width})}};
  if (kind == OpKind::kLayerNorm) {
    const TensorIndex bias =
        add_parameter(op_name + ".bias", {width.size}, Initializer::kZeros, 0, false);
    op.parameters.push_back({bias, axes.dims({width})});
  }
  const TensorIndex out = add_activation(op_name, dims_[at(x)]);
  op.outputs = {{out, axes.dims(x_axes)}};
  op.axes = axes.take();
  op.attributes.epsilon = epsilon;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::rotary(const std::string& op_name,
                                 TensorIndex x,
                                 const OpAttributes& attributes) {
  Axes x_axes = dims_[at(x)];
  x_axes.back() = whole(x_axes.back());
  return elementwise(OpKind::kRotary, op_name, {x}, x_axes, attributes);
}

TensorIndex BlockBuilder::activation(const std::string& op_name,
                                     TensorIndex x,
                                     const std::string& function) {
  OpAttributes attributes;
  attributes.function = function;
  return elementwise(OpKind::kActivation, op_name, {x}, dims_[at(x)], attributes);
}

TensorIndex BlockBuilder::gated_activation(const std::string& op_name,
                                           TensorIndex gate,
                                           TensorIndex up,
                                           const std::string& function) {
  OpAttributes attributes;
  attributes.function = function;
  return elementwise(OpKind::kGatedActivation, op_name, {gate, up}, dims_[at(gate)], attributes);
}

TensorIndex BlockBuilder::add(const std::string& op_name, TensorIndex x, TensorIndex y) {
  return elementwise(OpKind::kAdd, op_name, {x, y}, dims_[at(x)], {});
}

TensorIndex BlockBuilder::stack(const std::string& op_name, TensorIndex x, TensorIndex y) {
  Axes pair_axes = dims_[at(x)];
  pair_axes.insert(pair_axes.end() - 1, pair_axis());
  const TensorIndex out = add_activation(op_name, pair_axes);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kStack;
  op.name = op_name;
  for (const TensorIndex input : {x, y}) {
    op.inputs.push_back({input, axes.dims(dims_[at(input)])});
  }
  op.outputs = {{out, axes.dims(pair_axes)}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return out;
}

std::pair<TensorIndex, TensorIndex> BlockBuilder::unstack(const std::string& op_name,
                                                          TensorIndex pair) {
  Axes axes_of_one = dims_[at(pair)];
  axes_of_one.erase(axes_of_one.end() - 2);
  const TensorIndex first = add_activation(op_name + ".0", axes_of_one);
  const TensorIndex second = add_activation(op_name + ".1", axes_of_one);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kUnstack;
  op.name = op_name;
  op.inputs = {{pair, axes.dims(dims_[at(pair)])}};
  op.outputs = {{first, axes.dims(axes_of_one)}, {second, axes.dims(axes_of_one)}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return {first, second};
}

TensorIndex BlockBuilder::elementwise(OpKind kind,
                                      const std::string& op_name,
                                      const std::vector<TensorIndex>& inputs,
                                      const std::vector<LoopAxis>& loop_axes_or_dims,
                                      const OpAttributes& attributes) {
  // Read before dims_ grows: loop_axes_or_dims may be one of its elements.
  OpAxes axes;
  const std::vector<std::vector<int>> dims = axes.dims(loop_axes_or_dims);
  const Axes out_axes = dims_[at(inputs.front())];
  const TensorIndex out = add_activation(op_name, out_axes);
  Op op;
  op.kind = kind;
  op.name = op_name;
  for (const TensorIndex input : inputs) {
    SHARDWISE_CHECK(block_.tensors[at(input)].shape == shape_of(out_axes), op_name);
    op.inputs.push_back({input, dims});
  }
  op.outputs = {{out, dims}};
  op.axes = axes.take();
  op.attributes = attributes;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::cross_entropy(const std::string& op_name,
                                        TensorIndex logits,
                                        TensorIndex targets) {
  Tensor loss;
  loss.name = op_name;
  loss.kind = TensorKind::kLoss;
  loss.type = ElementType::kFloat32;
  const TensorIndex out = add_tensor(std::move(loss));
  OpAxes axes;
  Op op;
  op.kind = OpKind::kCrossEntropy;
  op.name = op_name;
  op.inputs = {{logits, axes.dims(dims_[at(logits)])}, {targets, axes.dims(dims_[at(targets)])}};
  op.outputs = {{out, {}}};
  op.axes = axes.take();
  block_.ops.push_back(std::move(op));
  return out;
}

BlockBuilder::Routing BlockBuilder::router(const std::string& op_name,
                                           TensorIndex x,
                                           std::int64_t experts,
                                           std::int64_t experts_per_token,
                                           bool normalize_topk,
                                           double stddev,
                                           RouterBias bias) {
  Axes x_axes = dims_[at(x)];
  x_axes.back() = whole(x_axes.back());
  const LoopAxis e{"e", experts, AxisSharding::kNever};
  const LoopAxis k{"k", experts_per_token, AxisSharding::kNever};
  const TensorIndex weight = add_parameter(
      op_name + ".weight", {experts, x_axes.back().size}, Initializer::kNormal, stddev, true);
  const Axes routing_axes{x_axes[0], x_axes[1], k};
  const TensorIndex weights = add_activation(op_name + ".weights", routing_axes);
  const TensorIndex ids = add_integers(op_name + ".experts", TensorKind::kIds, routing_axes);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kRouter;
  op.name = op_name;
  op.inputs = {{x, axes.dims(x_axes)}};
  op.parameters = {{weight, axes.dims({e, x_axes.back()})}};
  if (bias == RouterBias::kPresent) {
    const TensorIndex b =
        add_parameter(op_name + ".bias", {experts}, Initializer::kZeros, 0, false);
    op.parameters.push_back({b, axes.dims({e})});
  }
  op.outputs = {{weights, axes.dims(routing_axes)}, {ids, axes.dims(routing_axes)}};
  op.axes = axes.take();
  op.attributes.experts_per_token = experts_per_token;
  op.attributes.normalize_topk = normalize_topk;
  block_.ops.push_back(std::move(op));
  return {weights, ids};
}

TensorIndex BlockBuilder::experts(const std::string& op_name,
                                  TensorIndex x,
                                  const Routing& routing,
                                  std::int64_t num_experts,
                                  std::int64_t ffn_width,
                                  const std::string& function,
                                  double stddev,
                                  double down_stddev) {
  Axes x_axes = dims_[at(x)];
  x_axes.back() = whole(x_axes.back());
  const LoopAxis& h = x_axes.back();
  const LoopAxis e{"e", num_experts, AxisSharding::kEven};
  const LoopAxis f{"f", ffn_width, AxisSharding::kEven};
  const LoopAxis k = dims_[at(routing.weights)].back();
  const LoopAxis exchange_batch{"xb", num_experts, AxisSharding::kExchange};
  const LoopAxis exchange_sequence{"xs", num_experts, AxisSharding::kExchange};
  OpAxes axes;
  const std::vector<int> b{axes.index(x_axes[0]), axes.index(exchange_batch)};
  const std::vector<int> s{axes.index(x_axes[1]), axes.index(exchange_sequence)};
  const std::vector<int> all_e{axes.index(e), b[1], s[1]};
  const int f_axis = axes.index(f);
  const int h_axis = axes.index(h);
  const int k_axis = axes.index(k);

  const std::vector<std::int64_t> wide{num_experts, ffn_width, h.size};
  const std::vector<std::int64_t> narrow{num_experts, h.size, ffn_width};
  const TensorIndex gate =
      add_parameter(op_name + ".gate", wide, Initializer::kNormal, stddev, true);
  const TensorIndex up = add_parameter(op_name + ".up", wide, Initializer::kNormal, stddev, true);
  const TensorIndex down =
      add_parameter(op_name + ".down", narrow, Initializer::kNormal, down_stddev, true);
  const TensorIndex out = add_activation(op_name, dims_[at(x)]);
  Op op;
  op.kind = OpKind::kExperts;
  op.name = op_name;
  op.inputs = {{x, {b, s, {h_axis}}},
               {routing.weights, {b, s, {k_axis}}},
               {routing.experts, {b, s, {k_axis}}}};
  op.parameters = {{gate, {all_e, {f_axis}, {h_axis}}},
                   {up, {all_e, {f_axis}, {h_axis}}},
                   {down, {all_e, {h_axis}, {f_axis}}}};
  op.outputs = {{out, {b, s, {h_axis}}}};
  op.axes = axes.take();
  op.attributes.function = function;
  op.attributes.experts_per_token = k.size;
  block_.ops.push_back(std::move(op));
  return out;
}

Block BlockBuilder::build() && { return std::move(block_); }

}  // namespace shardwise
