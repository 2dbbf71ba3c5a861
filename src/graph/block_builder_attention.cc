// Attention in its other forms, and gates: axes only (block_builder.h).
#include <utility>

#include "core/errors.h"
#include "graph/block_builder.h"
#include "graph/op_axes.h"

namespace shardwise {

using builder::at;
using builder::OpAxes;
using builder::whole;

namespace {

void set_attributes(Op& op, const BlockBuilder::AttentionSettings& settings) {
  op.attributes.causal = settings.causal;
  op.attributes.scale = settings.scale;
  op.attributes.sliding_window = settings.sliding_window;
  op.attributes.softcap = settings.softcap;
}

LoopAxis key_axis(const LoopAxis& sequence) { return {"t", sequence.size, AxisSharding::kNever}; }

}  // namespace

TensorIndex BlockBuilder::relative_attention(const std::string& op_name,
                                             TensorIndex q,
                                             TensorIndex k,
                                             TensorIndex v,
                                             std::int64_t buckets,
                                             const AttentionSettings& settings,
                                             double stddev) {
  const TensorIndex out = attention(op_name, q, k, v, settings);
  Op& op = block_.ops.back();
  op.kind = OpKind::kRelativeAttention;
  const int heads = axis_index(op, "n");
  SHARDWISE_CHECK(op.axes[at(axis_index(op, "r"))].size == 1, op_name + ": one query a head");
  op.axes.push_back({"k", buckets, AxisSharding::kNever});
  const int bucket = static_cast<int>(op.axes.size()) - 1;
  const std::int64_t num_heads = op.axes[at(heads)].size;
  const TensorIndex table =
      add_parameter(op_name + ".bias", {buckets, num_heads}, Initializer::kNormal, stddev, true);
  op.parameters = {{table, {{bucket}, {heads}}}};
  return out;
}

TensorIndex BlockBuilder::latent_attention(const std::string& op_name,
                                           TensorIndex q,
                                           TensorIndex k,
                                           TensorIndex k_rotary,
                                           TensorIndex v,
                                           const AttentionSettings& settings) {
  const Axes& q_dims = dims_[at(q)];  // b s n d
  const LoopAxis b = q_dims[0];
  const LoopAxis s = q_dims[1];
  const LoopAxis n = q_dims[2];
  const LoopAxis d = whole(q_dims[3]);
  const LoopAxis t = key_axis(dims_[at(k)][1]);
  const LoopAxis c{"c", dims_[at(k)][3].size, AxisSharding::kNever};
  const LoopAxis p{"p", dims_[at(k_rotary)][2].size, AxisSharding::kNever};
  const LoopAxis w{"w", dims_[at(v)][3].size, AxisSharding::kNever};
  SHARDWISE_CHECK(d.size == c.size + p.size, op_name + ": queries are as wide as keys");
  const TensorIndex out = add_activation(op_name, {b, s, n, w});
  OpAxes axes;
  Op op;
  op.kind = OpKind::kLatentAttention;
  op.name = op_name;
  op.inputs = {{q, axes.dims({b, s, n, d})},
               {k, axes.dims({b, t, n, c})},
               {k_rotary, axes.dims({b, t, p})},
               {v, axes.dims({b, t, n, w})}};
  op.outputs = {{out, axes.dims({b, s, n, w})}};
  op.axes = axes.take();
  set_attributes(op, settings);
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::window_attention(const std::string& op_name,
                                           TensorIndex q,
                                           TensorIndex k,
                                           TensorIndex v,
                                           std::int64_t window,
                                           double stddev) {
  Axes x_axes = dims_[at(q)];  // b s n d
  x_axes[1] = whole(x_axes[1]);
  x_axes[3] = whole(x_axes[3]);
  const LoopAxis n = x_axes[2];
  const LoopAxis offsets{"k", (2 * window - 1) * (2 * window - 1), AxisSharding::kNever};
  const TensorIndex table =
      add_parameter(op_name + ".bias", {offsets.size, n.size}, Initializer::kNormal, stddev, true);
  const TensorIndex out = add_activation(op_name, dims_[at(q)]);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kWindowAttention;
  op.name = op_name;
  op.inputs = {{q, axes.dims(x_axes)}, {k, axes.dims(x_axes)}, {v, axes.dims(x_axes)}};
  op.parameters = {{table, axes.dims({offsets, n})}};
  op.outputs = {{out, axes.dims(x_axes)}};
  op.axes = axes.take();
  op.attributes.causal = false;
  op.attributes.window = window;
  block_.ops.push_back(std::move(op));
  return out;
}

TensorIndex BlockBuilder::row_gate(const std::string& op_name,
                                   TensorIndex y,
                                   TensorIndex gate,
                                   const std::string& function) {
  const Axes y_axes = dims_[at(y)];
  const LoopAxis g{"g", 1, AxisSharding::kNever};
  const TensorIndex out = add_activation(op_name, y_axes);
  OpAxes axes;
  Op op;
  op.kind = OpKind::kRowGate;
  op.name = op_name;
  op.inputs = {{y, axes.dims(y_axes)}, {gate, axes.dims({y_axes[0], y_axes[1], g})}};
  op.outputs = {{out, axes.dims(y_axes)}};
  op.axes = axes.take();
  op.attributes.function = function;
  block_.ops.push_back(std::move(op));
  return out;
}

}  // namespace shardwise
