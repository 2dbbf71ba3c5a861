// How a layer body is made.
//
// Forward walks the ops in order. A tensor exists in the layout its producer leaves it in; each
// distinct layout that a use asks for is made once, by conversion_steps. Backward walks the ops in
// reverse. Gradients of a tensor are collected in groups by their layout (which tells the target
// layout of the use too: a shard comes from a sharded use, partial or replicate from a whole one),
// added inside a group while still partial, and brought to what the producer needs when all uses
// are done. What backward reads is kept, or made again from what is kept: see plan_recomputation.

#include "graph/layer_body.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "core/errors.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

class BodyBuilder {
 public:
  BodyBuilder(const Block& block,
              const LayerPlan& plan,
              const Mesh& mesh,
              const Layout& output_layout,
              Precision precision)
      : block_(block),
        plan_(plan),
        mesh_(mesh),
        output_layout_(output_layout),
        precision_(precision),
        produced_(block.tensors.size(), -1),
        groups_(block.tensors.size()) {}

  LayerBody build() {
    build_forward();
    plan_recomputation();
    build_backward();
    settle_storage(body_.forward, {});
    std::vector<LayerStep> later = body_.recompute;
    later.insert(later.end(), body_.backward.begin(), body_.backward.end());
    settle_storage(later, {body_.input_gradient});
    std::copy_n(later.begin(), body_.recompute.size(), body_.recompute.begin());
    std::copy_n(later.begin() + static_cast<std::ptrdiff_t>(body_.recompute.size()),
                body_.backward.size(),
                body_.backward.begin());
    return std::move(body_);
  }

 private:
  const Tensor& tensor(TensorIndex index) const { return block_.tensors[at(index)]; }
  const AxisAssignment& assignment(int op) const { return plan_.op_axes[at(op)]; }

  bool is_loaded(TensorIndex index) const { return shardwise::is_loaded(tensor(index).kind); }

  ValueId add_value(Value value) {
    value.bytes = Bytes(element_count(value.shape) * element_bytes(value.type, precision_));
    body_.values.push_back(std::move(value));
    return static_cast<ValueId>(body_.values.size()) - 1;
  }

  ValueId add_tensor_value(Value::Kind kind, TensorIndex index, const Layout& layout) {
    Value value;
    value.kind = kind;
    value.tensor = index;
    value.layout = layout;
    value.shape = local_shape(tensor(index).shape, layout, mesh_);
    value.type = tensor(index).type;
    return add_value(std::move(value));
  }

  // Appends the steps that bring `from` to `to`; returns the value they end in.
  ValueId convert(ValueId from, const Layout& to, std::vector<LayerStep>& steps) {
    const Value source = body_.values[at(from)];
    Layout layout = source.layout;
    ValueId current = from;
    for (const CollectiveStep& collective :
         conversion_steps(tensor(source.tensor).shape, source.layout, to, mesh_)) {
      AxisLayout& axis = layout[at(collective.mesh_axis)];
      axis = result_of(collective, axis);
      LayerStep step;
      step.kind = LayerStep::Kind::kCollective;
      step.collective = collective;
      step.reads = {current};
      current = add_tensor_value(source.kind, source.tensor, layout);
      step.writes = {current};
      steps.push_back(std::move(step));
    }
    return current;
  }

  static AxisLayout result_of(const CollectiveStep& step, const AxisLayout&) {
    switch (step.kind) {
      case CollectiveKind::kAllGather:
      case CollectiveKind::kAllReduce:
        return AxisLayout::replicate();
      case CollectiveKind::kReduceScatter:
      case CollectiveKind::kSlice:
        return AxisLayout::shard(step.dim);
      case CollectiveKind::kAllToAll:
        return AxisLayout::shard(step.to_dim);
    }
    return AxisLayout::replicate();
  }

  // The tensor in the layout that a use asks for.
  ValueId value_in(TensorIndex index, const Layout& layout) {
    const auto key = std::make_pair(index, layout);
    if (const auto known = in_layout_.find(key); known != in_layout_.end()) {
      return known->second;
    }
    ValueId value = -1;
    if (is_loaded(index)) {
      value = add_tensor_value(Value::Kind::kActivation, index, layout);
      loaded_.insert(value);
    } else {
      value = convert(produced_[at(index)], layout, body_.forward);
    }
    in_layout_.emplace(key, value);
    return value;
  }

  void produce(TensorIndex index, ValueId value) {
    produced_[at(index)] = value;
    in_layout_.emplace(std::make_pair(index, body_.values[at(value)].layout), value);
  }

  void build_forward() {
    if (!block_.inputs.empty()) {
      SHARDWISE_CHECK(block_.inputs.size() == 1, "a boundary carries one tensor");
      body_.input =
          add_tensor_value(Value::Kind::kActivation, block_.inputs[0], plan_.input_layout);
      produce(block_.inputs[0], body_.input);
    }
    for (int o = 0; o < static_cast<int>(block_.ops.size()); ++o) {
      body_.forward.push_back(forward_step(o));
    }
    if (!block_.outputs.empty()) {
      body_.output = value_in(block_.outputs[0], output_layout_);
    }
  }

  LayerStep forward_step(int o) {
    const Op& op = block_.ops[at(o)];
    LayerStep step;
    step.op = o;
    step.direction = Direction::kForward;
    const std::vector<std::int64_t> sizes = local_axis_sizes(op, assignment(o), mesh_);
    step.workspace = definition_of(op.kind).workspace(
        op, sizes, Direction::kForward, element_bytes(ElementType::kCompute, precision_));
    for (const Operand& input : op.inputs) {
      step.reads.push_back(value_in(input.tensor, input_layout(op, input, assignment(o), mesh_)));
    }
    for (const Operand& output : op.outputs) {
      const ValueId value =
          add_tensor_value(Value::Kind::kActivation, output.tensor, layout_of_output(o, output));
      produce(output.tensor, value);
      step.writes.push_back(value);
      if (tensor(output.tensor).kind == TensorKind::kLoss) {
        body_.loss = value;
      }
    }
    add_statistics(o, sizes, step);
    return step;
  }

  // A scalar loss has no dimension that a layout could speak of.
  Layout layout_of_output(int o, const Operand& output) const {
    return tensor(output.tensor).kind == TensorKind::kLoss
               ? Layout{}
               : output_layout(block_.ops[at(o)], output, assignment(o), mesh_);
  }

  void add_statistics(int o, const std::vector<std::int64_t>& sizes, LayerStep& step) {
    const Op& op = block_.ops[at(o)];
    const SavedForBackward saved = definition_of(op.kind).saved(op);
    for (int s = 0; s < static_cast<int>(saved.statistics.size()); ++s) {
      Value value;
      value.kind = Value::Kind::kStatistic;
      value.tensor = op.outputs[0].tensor;
      value.op = o;
      value.statistic = s;
      value.type = saved.statistics[at(s)].type;
      for (const int axis : saved.statistics[at(s)].axes) {
        value.shape.push_back(sizes[at(axis)]);
      }
      step.writes.push_back(add_value(std::move(value)));
    }
  }

  // Values that the backward kernel of op `o` reads besides gradients, in the order of LayerStep.
  std::vector<ValueId> backward_needs(int o) const {
    const Op& op = block_.ops[at(o)];
    const LayerStep& forward = body_.forward[at(forward_index_[at(o)])];
    const SavedForBackward saved = definition_of(op.kind).saved(op);
    std::vector<ValueId> needs;
    for (const int input : saved.inputs) {
      needs.push_back(forward.reads[at(input)]);
    }
    for (const int output : saved.outputs) {
      needs.push_back(forward.writes[at(output)]);
    }
    for (std::size_t s = 0; s < saved.statistics.size(); ++s) {
      needs.push_back(forward.writes[op.outputs.size() + s]);
    }
    return needs;
  }

  bool is_recomputed(const LayerStep& step) const {
    if (plan_.recompute == Recompute::kNone) {
      return false;
    }
    if (plan_.recompute == Recompute::kFull) {
      return true;
    }
    // Selective: cheap kernels, and slices, which cost nothing; never a transfer.
    return step.kind == LayerStep::Kind::kOp ? definition_of(block_.ops[at(step.op)].kind).cheap
                                             : step.collective.kind == CollectiveKind::kSlice;
  }

  // Decides for every value that backward reads: kept, or made again. A step that runs again needs
  // its inputs kept or made again in turn. Values made again are new ones (each value is written
  // once).
  void plan_recomputation() {
    forward_index_.resize(block_.ops.size());
    std::map<ValueId, int> writer;
    for (int i = 0; i < static_cast<int>(body_.forward.size()); ++i) {
      const LayerStep& step = body_.forward[at(i)];
      if (step.kind == LayerStep::Kind::kOp) {
        forward_index_[at(step.op)] = i;
      }
      for (const ValueId value : step.writes) {
        writer[value] = i;
      }
    }
    std::vector<ValueId> wanted;
    for (int o = 0; o < static_cast<int>(block_.ops.size()); ++o) {
      const std::vector<ValueId> needs = backward_needs(o);
      wanted.insert(wanted.end(), needs.begin(), needs.end());
    }
    std::set<ValueId> kept;
    std::set<int> again;
    while (!wanted.empty()) {
      const ValueId value = wanted.back();
      wanted.pop_back();
      const auto found = writer.find(value);
      if (loaded_.contains(value)) {
        continue;
      }
      if (found == writer.end() || !is_recomputed(body_.forward[at(found->second)])) {
        kept.insert(value);
      } else if (again.insert(found->second).second) {
        const LayerStep& step = body_.forward[at(found->second)];
        wanted.insert(wanted.end(), step.reads.begin(), step.reads.end());
      }
    }
    body_.saved.assign(kept.begin(), kept.end());
    for (const int i : again) {
      body_.recompute.push_back(run_again(body_.forward[at(i)]));
    }
  }

  LayerStep run_again(LayerStep step) {
    for (ValueId& value : step.reads) {
      value = in_backward(value);
    }
    for (ValueId& value : step.writes) {
      const ValueId copy = add_value(body_.values[at(value)]);
      again_[value] = copy;
      value = copy;
    }
    return step;
  }

  ValueId in_backward(ValueId value) const {
    const auto copy = again_.find(value);
    return copy == again_.end() ? value : copy->second;
  }

  bool has_gradient(TensorIndex index) const {
    return tensor(index).kind == TensorKind::kActivation;
  }

  // Adds a gradient to its group; the sum of a group stays in one layout.
  void collect(TensorIndex index, ValueId gradient) {
    std::vector<ValueId>& groups = groups_[at(index)];
    for (ValueId& group : groups) {
      if (body_.values[at(group)].layout == body_.values[at(gradient)].layout) {
        group = accumulate(group, gradient);
        return;
      }
    }
    groups.push_back(gradient);
  }

  ValueId accumulate(ValueId a, ValueId b) {
    LayerStep step;
    step.kind = LayerStep::Kind::kAccumulate;
    step.reads = {a, b};
    const ValueId sum = add_tensor_value(
        Value::Kind::kGradient, body_.values[at(a)].tensor, body_.values[at(a)].layout);
    step.writes = {sum};
    body_.backward.push_back(std::move(step));
    return sum;
  }

  // The whole gradient of a tensor in `layout`, once all its uses have given theirs.
  std::optional<ValueId> finish(TensorIndex index, const Layout& layout) {
    std::optional<ValueId> total;
    for (const ValueId group : groups_[at(index)]) {
      const ValueId converted = convert(group, layout, body_.backward);
      total = total ? accumulate(*total, converted) : converted;
    }
    return total;
  }

  void build_backward() {
    if (!block_.outputs.empty()) {
      body_.output_gradient =
          add_tensor_value(Value::Kind::kGradient, block_.outputs[0], output_layout_);
      collect(block_.outputs[0], body_.output_gradient);
    }
    for (int o = static_cast<int>(block_.ops.size()) - 1; o >= 0; --o) {
      add_backward_steps(o);
    }
    if (!block_.inputs.empty()) {
      const std::optional<ValueId> gradient = finish(block_.inputs[0], plan_.input_layout);
      SHARDWISE_CHECK(gradient.has_value(), block_.name + ": the input has no use");
      body_.input_gradient = *gradient;
    }
  }

  void add_backward_steps(int o) {
    const Op& op = block_.ops[at(o)];
    LayerStep step;
    step.op = o;
    for (const Operand& output : op.outputs) {
      if (!has_gradient(output.tensor)) {
        continue;
      }
      const std::optional<ValueId> gradient =
          finish(output.tensor, required_gradient_layout(layout_of_output(o, output)));
      SHARDWISE_CHECK(gradient.has_value(), op.name + ": the result has no use");
      step.reads.push_back(*gradient);
    }
    if (op.kind == OpKind::kAdd) {
      for (const Operand& input : op.inputs) {
        collect(input.tensor, step.reads[0]);
      }
      return;
    }
    for (const ValueId value : backward_needs(o)) {
      step.reads.push_back(in_backward(value));
    }
    add_kernels(o, std::move(step));
  }

  void add_kernels(int o, LayerStep step) {
    const Op& op = block_.ops[at(o)];
    const bool splits = definition_of(op.kind).splits_backward;
    const bool needs_input = std::any_of(op.inputs.begin(), op.inputs.end(), [&](const Operand& i) {
      return has_gradient(i.tensor);
    });
    if (needs_input || !splits) {
      LayerStep kernel = step;
      set_direction(kernel, splits ? Direction::kBackwardInput : Direction::kBackward);
      for (const Operand& input : op.inputs) {
        kernel.writes.push_back(
            has_gradient(input.tensor)
                ? add_tensor_value(Value::Kind::kGradient,
                                   input.tensor,
                                   gradient_layout(op, input, assignment(o), mesh_))
                : -1);
      }
      body_.backward.push_back(kernel);
      for (std::size_t i = 0; i < op.inputs.size(); ++i) {
        if (kernel.writes[i] >= 0) {
          collect(op.inputs[i].tensor, kernel.writes[i]);
        }
      }
    }
    if (splits) {
      set_direction(step, Direction::kBackwardWeight);
      body_.backward.push_back(std::move(step));
    }
  }

  void set_direction(LayerStep& step, Direction direction) const {
    const Op& op = block_.ops[at(step.op)];
    step.direction = direction;
    step.workspace =
        definition_of(op.kind).workspace(op,
                                         local_axis_sizes(op, assignment(step.op), mesh_),
                                         direction,
                                         element_bytes(ElementType::kCompute, precision_));
  }

  // Lets sums take over the storage of a value that dies in them. `outlives`: values the caller
  // keeps.
  void settle_storage(std::vector<LayerStep>& steps, const std::set<ValueId>& outlives) {
    std::map<ValueId, std::size_t> last_read;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      for (const ValueId value : steps[i].reads) {
        last_read[value] = i;
      }
    }
    const std::set<ValueId> saved(body_.saved.begin(), body_.saved.end());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      LayerStep& step = steps[i];
      if (!may_take_over(step)) {
        continue;
      }
      // The later operand first: it was made for this sum.
      for (auto value = step.reads.rbegin(); value != step.reads.rend(); ++value) {
        const bool dies = last_read[*value] == i && !saved.contains(*value) &&
                          !outlives.contains(*value) && *value != body_.input &&
                          *value != body_.output;
        if (dies && body_.values[at(*value)].bytes == body_.values[at(step.writes[0])].bytes) {
          step.in_place = *value;
          break;
        }
      }
    }
  }

  bool may_take_over(const LayerStep& step) const {
    return step.kind == LayerStep::Kind::kAccumulate ||
           (step.kind == LayerStep::Kind::kOp && step.direction == Direction::kForward &&
            block_.ops[at(step.op)].kind == OpKind::kAdd);
  }

  const Block& block_;
  const LayerPlan& plan_;
  const Mesh& mesh_;
  const Layout& output_layout_;
  const Precision precision_;
  LayerBody body_;
  std::vector<ValueId> produced_;                                // by tensor
  std::map<std::pair<TensorIndex, Layout>, ValueId> in_layout_;  // forward values
  std::set<ValueId> loaded_;                                     // tokens and targets
  std::vector<int> forward_index_;                               // step of an op in `forward`
  std::map<ValueId, ValueId> again_;                             // forward value -> its copy
  std::vector<std::vector<ValueId>> groups_;                     // gradients by tensor and layout
};

}  // namespace

Bytes LayerBody::saved_bytes() const {
  Bytes total{0};
  for (const ValueId value : saved) {
    total += values[at(value)].bytes;
  }
  return total;
}

LayerBody make_layer_body(const Block& block,
                          const LayerPlan& plan,
                          const Mesh& mesh,
                          const Layout& output_layout,
                          Precision precision) {
  return BodyBuilder(block, plan, mesh, output_layout, precision).build();
}

Layout boundary_output_layout(const Plan& plan, int layer) {
  const LayerPlace place = place_of(plan, layer);
  const ChunkPlan& chunk = plan.stages[at(place.stage)].chunks[at(place.chunk)];
  return place.index + 1 < static_cast<int>(chunk.layers.size())
             ? chunk.layers[at(place.index + 1)].input_layout
             : chunk.output_layout;
}

LayerBody make_layer_body(const Graph& graph, const Plan& plan, int layer) {
  const LayerPlace place = place_of(plan, layer);
  return make_layer_body(graph.block_of(layer),
                         layer_plan(plan, place),
                         plan.stages[at(place.stage)].mesh,
                         boundary_output_layout(plan, layer),
                         plan.precision);
}

std::int64_t element_bytes(ElementType type, Precision precision) {
  switch (type) {
    case ElementType::kFloat32:
      return 4;
    case ElementType::kInt64:
      return 8;
    case ElementType::kCompute:
      return precision == Precision::kFloat32 ? 4 : 2;
  }
  return 4;
}

}  // namespace shardwise
