#include "planner/block_costs.h"

#include <algorithm>

#include "core/errors.h"
#include "graph/layer_body.h"

namespace shardwise::planning {

namespace {

constexpr std::int64_t kFloatBytes = 4;
constexpr std::int64_t kUnknown = -1;

std::int64_t rounded(const Estimate& estimate) { return to_picoseconds(estimate.time).count; }

// Layouts of a tensor with at most six dimensions as numbers, the same on every mesh.
constexpr int kLayoutNumbers = 512;
int number_of(const Layout& layout) {
  int number = 0;
  for (const AxisLayout& axis : layout) {
    SHARDWISE_CHECK(axis.dim < 6, "a tied parameter has few dimensions");
    number = number * 8 + (axis.kind == AxisLayout::Kind::kShard     ? 2 + axis.dim
                           : axis.kind == AxisLayout::Kind::kPartial ? 1
                                                                     : 0);
  }
  return number;
}

bool contains(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace

BlockCosts::BlockCosts(const Block& block,
                       const StageShape& shape,
                       Precision precision,
                       const CostTable& costs,
                       const SpaceLimits& limits,
                       const TiedPlace& tied,
                       const Constraints& constraints,
                       std::shared_ptr<BlockActivations> activations)
    : block_(block),
      shape_(shape),
      precision_(precision),
      costs_(costs),
      tied_(tied),
      activations_(std::move(activations)),
      ops_(activations_->ops),
      tensors_(activations_->tensors) {
  if (!activations_->is_made) {
    make_activations(limits, constraints);
    activations_->is_made = true;
  }
}

// Expert parallelism may take the data axis, and constraints may speak of its degree.
bool BlockCosts::has_shareable_activations(const Block& block, const Constraints& constraints) {
  return constraints.empty() && std::all_of(block.ops.begin(), block.ops.end(), [](const Op& op) {
           return axis_index(op, "xb") < 0;
         });
}

void BlockCosts::make_activations(const SpaceLimits& limits, const Constraints& constraints) {
  const Block& block = block_;
  const Mesh& mesh = shape_.mesh;
  BlockActivations& made = *activations_;
  ops_.resize(block.ops.size());
  tensors_.resize(block.tensors.size());
  for (int o = 0; o < num_ops(); ++o) {
    const Op& op = block.ops[at(o)];
    OpModel& model = ops_[at(o)];
    model.assignments = assignments_of(op, mesh, limits);
    for (const Constraint& constraint : constraints) {
      std::erase_if(model.assignments, [&](const AxisAssignment& assignment) {
        return !allows_assignment(constraint, op, assignment, mesh);
      });
    }
    model.is_cheap = definition_of(op.kind).cheap;
    model.has_statistics = !definition_of(op.kind).saved(op).statistics.empty();
    // Running a cheap op again must not ask for more than its own backward does.
    SHARDWISE_CHECK(
        !model.is_cheap || definition_of(op.kind).saved(op).inputs.size() == op.inputs.size(),
        op.name + ": a cheap op keeps its inputs");
  }
  made.inputs = has_input() ? boundary_layouts(block.tensors[at(block.inputs[0])].shape, mesh)
                            : std::vector<Layout>(1);
  made.outputs = has_output() ? boundary_layouts(block.tensors[at(block.outputs[0])].shape, mesh)
                              : std::vector<Layout>(1);
  made.is_input_allowed.assign(made.inputs.size(), true);
  for (std::size_t input = 0; has_input() && input < made.inputs.size(); ++input) {
    made.is_input_allowed[input] =
        std::all_of(constraints.begin(), constraints.end(), [&](const Constraint& constraint) {
          return allows_input(constraint, made.inputs[input], mesh);
        });
  }
  find_again();
  add_tensors();
  add_uses();
  for (int o = 0; o < num_ops(); ++o) {
    add_op_choices(o);
  }
}

bool BlockCosts::is_possible() const {
  return std::none_of(
      ops_.begin(), ops_.end(), [](const OpModel& op) { return op.assignments.empty(); });
}

// Ops that full recomputation runs again: those whose results or statistics backward reads, and
// those that these need.
void BlockCosts::find_again() {
  for (int o = num_ops() - 1; o >= 0; --o) {
    const Op& op = block_.ops[at(o)];
    const SavedForBackward saved = definition_of(op.kind).saved(op);
    bool again = !saved.statistics.empty() || !saved.outputs.empty();
    for (const Operand& output : op.outputs) {
      for (const auto& [user, input] : uses_of(block_, output.tensor)) {
        const Op& use = block_.ops[at(user)];
        again |=
            ops_[at(user)].runs_again || contains(definition_of(use.kind).saved(use).inputs, input);
      }
    }
    ops_[at(o)].runs_again = again;
  }
}

int BlockCosts::layout_id(TensorModel& tensor, const Layout& layout, const Tensor& what) {
  for (std::size_t i = 0; i < tensor.layouts.size(); ++i) {
    if (tensor.layouts[i] == layout) {
      return static_cast<int>(i);
    }
  }
  tensor.layouts.push_back(layout);
  tensor.bytes.push_back(element_count(local_shape(what.shape, layout, shape_.mesh)) *
                         element_bytes(what.type, precision_));
  return static_cast<int>(tensor.layouts.size()) - 1;
}

UseClassId BlockCosts::class_id(TensorModel& tensor, const UseClass& use) {
  for (std::size_t i = 0; i < tensor.classes.size(); ++i) {
    if (tensor.classes[i] == use) {
      return static_cast<UseClassId>(i);
    }
  }
  tensor.classes.push_back(use);
  SHARDWISE_CHECK(tensor.classes.size() < 256, "too many ways to use a tensor");
  return static_cast<UseClassId>(tensor.classes.size() - 1);
}

void BlockCosts::add_tensors() {
  for (TensorIndex t = 0; t < static_cast<int>(block_.tensors.size()); ++t) {
    const Tensor& tensor = block_.tensors[at(t)];
    TensorModel& model = tensors_[at(t)];
    const bool is_value = tensor.kind == TensorKind::kActivation || tensor.kind == TensorKind::kIds;
    model.has_cost = is_value;
    model.has_gradient = tensor.kind == TensorKind::kActivation;
    if (!is_value) {
      continue;
    }
    const auto [op, output] = producer_of(block_, t);
    model.producer = op;
    model.producer_output = output;
    if (op < 0) {
      for (const Layout& layout : activations_->inputs) {
        model.produced.push_back(layout_id(model, layout, tensor));
      }
      model.required = model.produced;
      continue;
    }
    const Op& what = block_.ops[at(op)];
    model.producer_saves = contains(definition_of(what.kind).saved(what).outputs, output);
    for (const AxisAssignment& assignment : ops_[at(op)].assignments) {
      const Layout layout = output_layout(what, what.outputs[at(output)], assignment, shape_.mesh);
      model.produced.push_back(layout_id(model, layout, tensor));
      model.required.push_back(layout_id(model, required_gradient_layout(layout), tensor));
    }
  }
}

void BlockCosts::add_uses() {
  for (int o = 0; o < num_ops(); ++o) {
    const Op& op = block_.ops[at(o)];
    const SavedForBackward saved = definition_of(op.kind).saved(op);
    OpModel& model = ops_[at(o)];
    model.use_classes.resize(op.inputs.size());
    for (int i = 0; i < static_cast<int>(op.inputs.size()); ++i) {
      const Operand& operand = op.inputs[at(i)];
      TensorModel& tensor = tensors_[at(operand.tensor)];
      model.use_classes[at(i)].assign(model.assignments.size(), 0);
      if (!tensor.has_cost) {
        continue;
      }
      tensor.uses.push_back({operand.tensor, o, i});
      const Tensor& what = block_.tensors[at(operand.tensor)];
      for (std::size_t c = 0; c < model.assignments.size(); ++c) {
        const AxisAssignment& assignment = model.assignments[c];
        UseClass use;
        use.wanted = layout_id(tensor, input_layout(op, operand, assignment, shape_.mesh), what);
        use.has_gradient = tensor.has_gradient;
        if (use.has_gradient) {
          // An addition hands its own gradient on.
          const Layout gradient = op.kind == OpKind::kAdd
                                      ? required_gradient_layout(output_layout(
                                            op, op.outputs[0], assignment, shape_.mesh))
                                      : gradient_layout(op, operand, assignment, shape_.mesh);
          use.gradient = layout_id(tensor, gradient, what);
        }
        use.is_addend = op.kind == OpKind::kAdd;
        use.is_needed = contains(saved.inputs, i);
        use.is_needed_again = use.is_needed || model.runs_again;
        model.use_classes[at(i)][c] = class_id(tensor, use);
      }
    }
  }
  if (!has_output()) {
    activations_->output_classes.push_back(0);
    return;
  }
  TensorModel& tensor = tensors_[at(block_.outputs[0])];
  tensor.is_output = true;
  for (const Layout& layout : activations_->outputs) {
    UseClass use;
    use.wanted = layout_id(tensor, layout, block_.tensors[at(block_.outputs[0])]);
    use.gradient = use.wanted;
    use.has_gradient = true;
    use.is_block_output = true;
    activations_->output_classes.push_back(class_id(tensor, use));
  }
}

std::int64_t BlockCosts::kernel(const Op& op,
                                const std::vector<std::int64_t>& sizes,
                                Direction direction) const {
  return rounded(costs_.op_time(op, sizes, direction, precision_, shape_.device_type));
}

std::int64_t BlockCosts::collective(CollectiveKind kind,
                                    Bytes payload,
                                    unsigned axes,
                                    Precision precision) const {
  return payload.count == 0
             ? 0
             : rounded(costs_.collective_time(kind, payload, precision, shape_.placements[axes]));
}

std::int64_t BlockCosts::activation_collective(CollectiveKind kind,
                                               Bytes payload,
                                               int mesh_axis,
                                               Precision precision) const {
  // Along the data axis it would depend on the data degree.
  SHARDWISE_CHECK(mesh_axis != kDataAxis || !activations_->is_shared,
                  "shared activations are not exchanged along the data axis");
  return collective(kind, payload, 1U << mesh_axis, precision);
}

std::int64_t BlockCosts::inner_collectives(const Op& op,
                                           const AxisAssignment& assignment,
                                           Direction direction) const {
  std::int64_t time = 0;
  for (const InternalCollective& inner : definition_of(op.kind).internal_collectives(
           op,
           assignment,
           shape_.mesh,
           direction,
           element_bytes(ElementType::kCompute, precision_))) {
    time += activation_collective(inner.kind, inner.payload, inner.mesh_axis, Precision::kFloat32);
  }
  return time;
}

void BlockCosts::add_op_choices(int o) {
  const Op& op = block_.ops[at(o)];
  const OpDefinition& definition = definition_of(op.kind);
  const SavedForBackward saved = definition.saved(op);
  const std::int64_t element = element_bytes(ElementType::kCompute, precision_);
  const bool needs_input = std::any_of(op.inputs.begin(), op.inputs.end(), [&](const Operand& in) {
    return block_.tensors[at(in.tensor)].kind == TensorKind::kActivation;
  });
  std::vector<Direction> backward;
  if (op.kind != OpKind::kAdd) {
    if (needs_input || !definition.splits_backward) {
      backward.push_back(definition.splits_backward ? Direction::kBackwardInput
                                                    : Direction::kBackward);
    }
    if (definition.splits_backward) {
      backward.push_back(Direction::kBackwardWeight);
    }
  }
  for (const AxisAssignment& assignment : ops_[at(o)].assignments) {
    const std::vector<std::int64_t> sizes = local_axis_sizes(op, assignment, shape_.mesh);
    OpChoice choice;
    choice.forward_kernel = kernel(op, sizes, Direction::kForward);
    choice.forward_collectives = inner_collectives(op, assignment, Direction::kForward);
    choice.forward_workspace = definition.workspace(op, sizes, Direction::kForward, element).count;
    for (const Direction direction : backward) {
      choice.backward_kernels += kernel(op, sizes, direction);
      choice.backward_collectives += inner_collectives(op, assignment, direction);
      choice.backward_workspace = std::max(
          choice.backward_workspace, definition.workspace(op, sizes, direction, element).count);
    }
    for (const SavedStatistic& statistic : saved.statistics) {
      std::int64_t elements = 1;
      for (const int axis : statistic.axes) {
        elements *= sizes[at(axis)];
      }
      choice.statistics += elements * element_bytes(statistic.type, precision_);
    }
    if (tied_.op == o) {
      const ParameterPlacement placement =
          parameter_placement(op, op.parameters[at(tied_.index)], assignment, shape_.mesh);
      choice.signature =
          number_of(placement.layout) * kLayoutNumbers + number_of(placement.gradient);
    }
    ops_[at(o)].choices.push_back(choice);
  }
}

std::int64_t BlockCosts::input_bytes(int input) const {
  if (!has_input()) {
    return 0;
  }
  const TensorModel& tensor = tensors_[at(block_.inputs[0])];
  return tensor.bytes[at(tensor.produced[at(input)])];
}

std::int64_t BlockCosts::output_bytes(int output) const {
  if (!has_output()) {
    return 0;
  }
  const TensorModel& tensor = tensors_[at(block_.outputs[0])];
  return tensor.bytes[at(tensor.classes[output_class(output)].wanted)];
}

// --- ops ----------------------------------------------------------------------------------------

const BlockCosts::ModeCosts& BlockCosts::mode_costs(const Mode& mode) const {
  const auto [entry, is_new] = modes_.try_emplace(mode);
  ModeCosts& costs = entry->second;
  if (!is_new) {
    return costs;
  }
  for (int o = 0; o < num_ops(); ++o) {
    const OpModel& op = ops_[at(o)];
    costs.cost.emplace_back(op.choices.size());
    costs.memory.emplace_back(op.choices.size());
    const bool is_full = mode.recompute == Recompute::kFull;
    const bool is_selective = mode.recompute == Recompute::kSelective;
    const bool runs_again =
        (is_full && op.runs_again) || (is_selective && op.is_cheap && op.has_statistics);
    const bool keeps_statistics = !is_full && !(is_selective && op.is_cheap);
    for (int c = 0; c < static_cast<int>(op.choices.size()); ++c) {
      const OpChoice& choice = op.choices[at(c)];
      Cost& cost = costs.cost.back()[at(c)];
      cost.forward = choice.forward_kernel + choice.forward_collectives;
      cost.backward = choice.backward_kernels + choice.backward_collectives;
      cost.backward += runs_again ? cost.forward : 0;
      cost.saved = keeps_statistics ? choice.statistics : 0;
      ParameterMemory& memory = costs.memory.back()[at(c)];
      price_parameters(o, c, mode, cost, memory);
      if (!runs_again) {
        memory.momentary += memory.held;
        memory.held = 0;
      }
    }
  }
  return costs;
}

const Cost& BlockCosts::op_cost(int op, int choice, const Mode& mode) const {
  return mode_costs(mode).cost[at(op)][at(choice)];
}

const BlockCosts::ParameterMemory& BlockCosts::parameter_memory(int op,
                                                                int choice,
                                                                const Mode& mode) const {
  return mode_costs(mode).memory[at(op)][at(choice)];
}

void BlockCosts::price_parameters(
    int o, int c, const Mode& mode, Cost& cost, ParameterMemory& memory) const {
  const Op& op = block_.ops[at(o)];
  const OpChoice& choice = ops_[at(o)].choices[at(c)];
  const AxisAssignment& assignment = ops_[at(o)].assignments[at(c)];
  const std::int64_t element = element_bytes(ElementType::kCompute, precision_);
  const std::int64_t numbers = precision_ == Precision::kBFloat16 ? 3 : 2;
  // Elements that a collective moves, by (mesh axes, sharding): all, updated here, reduced here.
  struct Group {
    std::int64_t all = 0;
    std::int64_t updated = 0;
    std::int64_t reduced = 0;
  };
  std::map<std::pair<unsigned, StateSharding>, Group> groups;
  std::int64_t updated = 0;
  for (int i = 0; i < static_cast<int>(op.parameters.size()); ++i) {
    const Operand& parameter = op.parameters[at(i)];
    const ParameterPlacement placement =
        parameter_placement(op, parameter, assignment, shape_.mesh);
    const std::int64_t elements = element_count(
        local_shape(block_.tensors[at(parameter.tensor)].shape, placement.layout, shape_.mesh));
    const std::int64_t ranks = placement.reduction_degree;
    const std::int64_t part = (elements + ranks - 1) / ranks;
    const TieRole role = tied_.op == o && tied_.index == i ? mode.role : TieRole::kNone;
    StateSharding sharding = mode.sharding;
    if (role == TieRole::kExchangedAlias) {
      sharding = StateSharding::kNone;
    } else if (role == TieRole::kExchangedOwner) {
      sharding = std::min(sharding, StateSharding::kGradients);
    }
    const bool has_state = role != TieRole::kSharedAlias && role != TieRole::kExchangedAlias;
    const auto share = [&](StateSharding from) { return sharding >= from ? part : elements; };
    if (role != TieRole::kSharedAlias) {
      cost.state += share(StateSharding::kParameters) * element;
      cost.state += share(StateSharding::kGradients) * kFloatBytes;
      cost.state += has_state ? share(StateSharding::kOptimizer) * numbers * kFloatBytes : 0;
    }
    updated += has_state ? share(StateSharding::kOptimizer) : 0;
    if (ranks == 1) {
      continue;
    }
    if (sharding >= StateSharding::kGradients) {
      memory.momentary += elements * kFloatBytes;
      memory.held += sharding == StateSharding::kParameters ? elements * element : 0;
    }
    unsigned axes = 0;
    for (int m = 0; m < kMeshAxes; ++m) {
      axes |= placement.gradient[at(m)].kind == AxisLayout::Kind::kPartial ? 1U << m : 0U;
    }
    Group& group = groups[{axes, sharding}];
    group.all += ranks * part;
    group.updated += has_state ? ranks * part : 0;
    const bool owner_reduces =
        role == TieRole::kSharedAlias && sharding <= StateSharding::kOptimizer;
    group.reduced += owner_reduces ? 0 : ranks * part;
  }
  if (updated > 0) {
    cost.per_step += rounded(costs_.optimizer_time(updated, precision_, shape_.device_type));
  }
  std::int64_t per_step = 0;
  std::int64_t per_microbatch = 0;
  for (const auto& [key, group] : groups) {
    const auto [axes, sharding] = key;
    const Bytes gradient(group.reduced * kFloatBytes);
    const auto reduce = [&, where = axes](CollectiveKind kind, Bytes payload) {
      return collective(kind, payload, where, Precision::kFloat32);
    };
    const auto gather = [&, where = axes](std::int64_t count) {
      return collective(CollectiveKind::kAllGather, Bytes(count * element), where, precision_);
    };
    if (sharding == StateSharding::kNone) {
      per_step += reduce(CollectiveKind::kAllReduce, 2 * gradient);
    } else if (sharding == StateSharding::kOptimizer) {
      per_step += reduce(CollectiveKind::kReduceScatter, gradient);
    } else {
      per_microbatch += reduce(CollectiveKind::kReduceScatter, gradient);
    }
    if (sharding == StateSharding::kParameters) {
      cost.forward += gather(group.all);
      cost.backward += gather(group.all);
    } else if (sharding != StateSharding::kNone) {
      cost.per_step += gather(group.updated);
    }
  }
  const auto hidden = static_cast<std::int64_t>(costs_.overlap_fraction(shape_.device_type) *
                                                static_cast<double>(choice.backward_kernels));
  cost.per_step += std::max<std::int64_t>(0, per_step - hidden);
  cost.backward += std::max<std::int64_t>(0, per_microbatch - hidden);
}

// --- tensors ------------------------------------------------------------------------------------

const BlockCosts::Conversion& BlockCosts::conversion(TensorIndex t, int from, int to) const {
  const TensorModel& tensor = tensors_[at(t)];
  if (tensor.conversions.empty()) {
    tensor.conversions.assign(tensor.layouts.size(),
                              std::vector<Conversion>(tensor.layouts.size()));
  }
  Conversion& known = tensor.conversions[at(from)][at(to)];
  if (known.is_known) {
    return known;
  }
  known.is_known = true;
  const Tensor& what = block_.tensors[at(t)];
  const Layout& source = tensor.layouts[at(from)];
  const Layout& target = tensor.layouts[at(to)];
  known.possible = is_convertible(what.shape, source, target, shape_.mesh);
  const std::int64_t element = element_bytes(what.type, precision_);
  const Precision sent = what.type == ElementType::kCompute ? precision_ : Precision::kFloat32;
  const std::vector<CollectiveStep> steps =
      conversion_steps(what.shape, source, target, shape_.mesh);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].kind == CollectiveKind::kSlice) {
      continue;
    }
    known.time += activation_collective(steps[i].kind,
                                        collective_payload(steps[i], shape_.mesh, element),
                                        steps[i].mesh_axis,
                                        sent);
    known.kept_bytes = steps[i].elements_after * element;
    known.keeps_last = i + 1 == steps.size();
  }
  return known;
}

std::int64_t BlockCosts::accumulate_time(const TensorModel& tensor, int layout) const {
  if (tensor.accumulate.empty()) {
    tensor.accumulate.assign(tensor.layouts.size(), kUnknown);
  }
  std::int64_t& time = tensor.accumulate[at(layout)];
  if (time == kUnknown) {
    time = rounded(costs_.accumulate_time(Bytes(tensor.bytes[at(layout)]), shape_.device_type));
  }
  return time;
}

Closing BlockCosts::close(TensorIndex t,
                          int choice,
                          std::span<const UseClassId> uses,
                          Recompute recompute) const {
  const TensorModel& tensor = tensors_[at(t)];
  const int produced = tensor.produced[at(choice)];
  const int required = tensor.required[at(choice)];
  Closing closing;
  if (!is_choice_allowed(t, choice)) {
    closing.possible = false;
    return closing;
  }
  // Distinct layouts seen so far; a handful.
  std::array<int, 16> wanted{};
  std::array<int, 16> groups{};
  std::array<int, 16> again{};
  std::size_t num_wanted = 0;
  std::size_t num_groups = 0;
  std::size_t num_again = 0;
  const auto insert = [](std::array<int, 16>& list, std::size_t& count, int value) {
    for (std::size_t i = 0; i < count; ++i) {
      if (list[i] == value) {
        return false;
      }
    }
    SHARDWISE_CHECK(count < list.size(), "a tensor has too many distinct uses");
    list[count++] = value;
    return true;
  };
  for (const UseClassId id : uses) {
    const UseClass& use = tensor.classes[id];
    if (insert(wanted, num_wanted, use.wanted) && use.wanted != produced) {
      const Conversion& there = conversion(t, produced, use.wanted);
      if (!there.possible) {
        closing.possible = false;
        return closing;
      }
      closing.cost.forward += there.time;
    }
    if (recompute == Recompute::kFull && use.is_needed_again &&
        insert(again, num_again, use.wanted) && use.wanted != produced) {
      closing.cost.backward += conversion(t, produced, use.wanted).time;
    }
    if (use.has_gradient && !insert(groups, num_groups, use.gradient)) {
      closing.cost.backward += accumulate_time(tensor, use.gradient);
    }
  }
  for (std::size_t g = 0; g < num_groups; ++g) {
    if (groups[g] != required) {
      closing.cost.backward += conversion(t, groups[g], required).time;
    }
    closing.cost.backward += g > 0 ? accumulate_time(tensor, required) : 0;
  }
  close_kept(t, choice, uses, recompute, closing);
  return closing;
}

// What of the tensor stays from forward to backward.
void BlockCosts::close_kept(TensorIndex t,
                            int choice,
                            std::span<const UseClassId> uses,
                            Recompute recompute,
                            Closing& closing) const {
  const TensorModel& tensor = tensors_[at(t)];
  const int produced = tensor.produced[at(choice)];
  const bool is_input = tensor.producer < 0;
  std::int64_t output_layout = kUnknown;
  bool keeps_output_value = false;
  std::array<bool, 256> seen{};
  for (const UseClassId id : uses) {
    const UseClass& use = tensor.classes[id];
    output_layout = use.is_block_output ? use.wanted : output_layout;
  }
  const auto keep = [&](std::int64_t layout, std::int64_t bytes) {
    closing.cost.saved += bytes;
    keeps_output_value |= layout == output_layout;
  };
  bool wants_produced = tensor.producer_saves && recompute != Recompute::kFull;
  for (const UseClassId id : uses) {
    const UseClass& use = tensor.classes[id];
    const bool needed =
        recompute == Recompute::kFull ? is_input && use.is_needed_again : use.is_needed;
    if (!needed || seen[at(use.wanted)]) {
      continue;
    }
    seen[at(use.wanted)] = true;
    if (use.wanted == produced || recompute == Recompute::kFull) {
      wants_produced = true;
    } else if (recompute == Recompute::kNone) {
      keep(use.wanted, tensor.bytes[at(use.wanted)]);
    } else {
      const Conversion& there = conversion(t, produced, use.wanted);
      if (there.kept_bytes < 0) {
        wants_produced = true;
      } else {
        keep(there.keeps_last ? use.wanted : kUnknown - 1, there.kept_bytes);
      }
    }
  }
  if (wants_produced && recompute == Recompute::kSelective && !is_input &&
      ops_[at(tensor.producer)].is_cheap) {
    const OpModel& producer = ops_[at(tensor.producer)];
    const OpChoice& what = producer.choices[at(choice)];
    closing.cost.backward +=
        producer.has_statistics ? 0 : what.forward_kernel + what.forward_collectives;
  } else if (wants_produced) {
    closing.keeps_produced = true;
    keep(produced, tensor.bytes[at(produced)]);
  }
  closing.keeps_output = keeps_output_value;
}

BlockCosts::Share BlockCosts::share(TensorIndex t,
                                    int choice,
                                    UseClassId use_class,
                                    Recompute recompute) const {
  const TensorModel& tensor = tensors_[at(t)];
  const UseClass& use = tensor.classes[use_class];
  const int produced = tensor.produced[at(choice)];
  const int required = tensor.required[at(choice)];
  const double users = static_cast<double>(tensor.uses.size()) + (tensor.is_output ? 1 : 0);
  Share result;
  if (!is_choice_allowed(t, choice)) {
    result.possible = false;
    return result;
  }
  if (use.wanted != produced) {
    const Conversion& there = conversion(t, produced, use.wanted);
    result.possible = there.possible;
    if (!there.possible) {
      return result;
    }
    const double time = static_cast<double>(there.time) / users;
    result.forward += time;
    result.backward += recompute == Recompute::kFull && use.is_needed_again ? time : 0;
  }
  if (use.has_gradient) {
    double time = 0;
    if (use.gradient != required) {
      time += static_cast<double>(conversion(t, use.gradient, required).time);
    }
    // All uses but one are added to another: inside their group or after conversion.
    time += (users - 1) * static_cast<double>(std::min(accumulate_time(tensor, use.gradient),
                                                       accumulate_time(tensor, required)));
    result.backward += time / users;
  }
  // What this use alone would keep, shared by all who may want the same.
  Closing kept;
  close_kept(t, choice, std::span(&use_class, 1), recompute, kept);
  result.backward += static_cast<double>(kept.cost.backward) / users;
  result.saved += static_cast<double>(kept.cost.saved) / users;
  return result;
}

// --- transient memory ---------------------------------------------------------------------------

std::int64_t BlockCosts::produced_bytes(TensorIndex t, int choice) const {
  const TensorModel& tensor = tensors_[at(t)];
  return tensor.bytes[at(tensor.produced[at(choice)])];
}

bool BlockCosts::is_needed_by(TensorIndex t, const TensorUse& use) const {
  const std::vector<UseClassId>& classes = ops_[at(use.op)].use_classes[at(use.input)];
  return std::any_of(
      classes.begin(), classes.end(), [&](UseClassId id) { return is_needed(t, id); });
}

std::int64_t BlockCosts::most_bytes(TensorIndex t) const {
  const std::vector<std::int64_t>& bytes = tensors_[at(t)].bytes;
  return bytes.empty() ? 0 : *std::max_element(bytes.begin(), bytes.end());
}

std::int64_t BlockCosts::wanted_bytes(TensorIndex t, UseClassId use) const {
  const TensorModel& tensor = tensors_[at(t)];
  return tensor.bytes[at(tensor.classes[use].wanted)];
}

std::int64_t BlockCosts::gradient_bytes(TensorIndex t, UseClassId use) const {
  const TensorModel& tensor = tensors_[at(t)];
  const UseClass& what = tensor.classes[use];
  return what.has_gradient ? tensor.bytes[at(what.gradient)] : 0;
}

std::int64_t BlockCosts::produced_gradient_bytes(TensorIndex t, int choice) const {
  const TensorModel& tensor = tensors_[at(t)];
  return tensor.has_gradient ? tensor.bytes[at(tensor.required[at(choice)])] : 0;
}

std::int64_t BlockCosts::statistics_bytes(int op, int choice) const {
  return ops_[at(op)].choices[at(choice)].statistics;
}

std::int64_t BlockCosts::workspace(int op, int choice, bool is_forward) const {
  const OpChoice& what = ops_[at(op)].choices[at(choice)];
  return is_forward ? what.forward_workspace : what.backward_workspace;
}

int BlockCosts::signature(int op, int choice, const Mode& mode) const {
  const int layouts = ops_[at(op)].choices[at(choice)].signature;
  return layouts < 0 ? -1 : layouts * 4 + static_cast<int>(mode.sharding);
}

}  // namespace shardwise::planning
