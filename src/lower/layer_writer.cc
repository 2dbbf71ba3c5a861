#include "lower/layer_writer.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

BufferRole role_of(const Value& value, const Tensor& tensor) {
  switch (value.kind) {
    case Value::Kind::kGradient:
      return BufferRole::kGradient;
    case Value::Kind::kStatistic:
      return BufferRole::kStatistic;
    case Value::Kind::kActivation:
      break;
  }
  switch (tensor.kind) {
    case TensorKind::kTokens:
    case TensorKind::kImages:
      return BufferRole::kTokens;
    case TensorKind::kTargets:
      return BufferRole::kTargets;
    case TensorKind::kLoss:
      return BufferRole::kLoss;
    default:
      return BufferRole::kActivation;
  }
}

}  // namespace

const LayerBody& SharedParts::body(int layer) {
  std::optional<LayerBody>& body = bodies[at(layer)];
  if (!body) {
    body = make_layer_body(graph, plan, layer);
  }
  return *body;
}

LayerWriter::LayerWriter(SharedParts& shared,
                         const StagePlan& stage,
                         const ParameterIndex& parameters,
                         Program& program)
    : shared_(shared),
      plan_(shared.plan),
      graph_(shared.graph),
      stage_(stage),
      program_(program),
      splits_(traits_of(plan_.schedule).splits_backward),
      values_(graph_.layers.size()) {
  InternalByDirection unknown;
  unknown.fill(kUnknown);
  for (const ChunkPlan& chunk : stage_.chunks) {
    for (int layer = chunk.first_layer; layer < chunk.end_layer(); ++layer) {
      const std::size_t ops = graph_.block_of(layer).ops.size();
      op_parameters_[layer].resize(ops);
      internal_[layer].assign(ops, unknown);
    }
  }
  for (const auto& [use, index] : parameters) {
    sort_parameter(use, index, op_parameters_[use.layer][at(use.op)]);
  }
}

void LayerWriter::forget(int layer, int microbatch) {
  ValueBuffers().swap(values_[at(layer)][at(microbatch)]);
}

void LayerWriter::write_updates() {
  for (const ChunkPlan& chunk : stage_.chunks) {
    for (int layer = chunk.first_layer; layer < chunk.end_layer(); ++layer) {
      const std::vector<OpParameters>& ops = op_parameters_[layer];
      for (int op = 0; op < static_cast<int>(ops.size()); ++op) {
        const OpParameters& parameters = ops[at(op)];
        write_exchange(InstructionKind::kUpdate, layer, op, -1, parameters.updated);
        write_exchange(
            InstructionKind::kGatherUpdated, layer, op, -1, parameters.gathered_when_updated);
      }
    }
  }
}

void LayerWriter::sort_parameter(const ParameterPlace& use, int index, OpParameters& of_op) const {
  const LocalParameter& parameter = program_.parameters[at(index)];
  const bool is_owner = parameter.uses.front() == use;  // else the second use of a shared tie
  const bool has_state = is_owner && parameter.has_optimizer_state();
  if (has_state) {
    of_op.updated.push_back(index);
  }
  if (parameter.reduction_degree == 1) {
    return;
  }
  if (parameter.state_sharding == StateSharding::kParameters) {
    of_op.gathered.push_back(index);
  }
  if (parameter.state_sharding >= StateSharding::kGradients) {
    of_op.reduced_by_microbatch.push_back(index);
  } else if (is_owner) {
    const bool waits = splits_ && parameter.uses.size() > 1;
    (waits ? of_op.reduced_at_the_end : of_op.reduced_by_step).push_back(index);
  }
  const bool stays_whole = parameter.state_sharding == StateSharding::kOptimizer ||
                           parameter.state_sharding == StateSharding::kGradients;
  if (has_state && stays_whole) {
    of_op.gathered_when_updated.push_back(index);
  }
}

void LayerWriter::write_exchange(
    InstructionKind kind, int layer, int op, int microbatch, const std::vector<int>& parameters) {
  if (parameters.empty()) {
    return;
  }
  Instruction& instruction = add(kind);
  instruction.layer = layer;
  instruction.op = op;
  instruction.microbatch = microbatch;
  instruction.parameters = parameters;
}

LayerWriter::ValueBuffers& LayerWriter::values_of(int layer, int microbatch) {
  std::vector<ValueBuffers>& by_microbatch = values_[at(layer)];
  by_microbatch.resize(at(plan_.num_microbatches));
  ValueBuffers& buffers = by_microbatch[at(microbatch)];
  if (buffers.empty()) {
    buffers.assign(shared_.body(layer).values.size(), -1);
  }
  return buffers;
}

BufferId LayerWriter::buffer(int layer, int microbatch, ValueId id) {
  if (id < 0) {
    return -1;
  }
  BufferId& known = values_of(layer, microbatch)[at(id)];
  if (known < 0) {
    const Value& value = shared_.body(layer).values[at(id)];
    Buffer made;
    made.role = role_of(value, graph_.block_of(layer).tensors[at(value.tensor)]);
    made.layer = layer;
    made.microbatch = microbatch;
    made.tensor = value.tensor;
    made.shape = value.shape;
    made.layout = value.layout;
    made.type = value.type;
    made.bytes = value.bytes;
    known = static_cast<BufferId>(program_.buffers.size());
    program_.buffers.push_back(std::move(made));
    if (id == shared_.body(layer).loss) {  // recomputation makes another one, which nobody reads
      losses_.push_back(known);
    }
  }
  return known;
}

void LayerWriter::share(int from, ValueId from_value, int to, ValueId to_value, int microbatch) {
  const BufferId shared = buffer(from, microbatch, from_value);
  values_of(to, microbatch)[at(to_value)] = shared;
}

Instruction& LayerWriter::add(InstructionKind kind) {
  Instruction& instruction = program_.instructions.emplace_back();
  instruction.kind = kind;
  return instruction;
}

void LayerWriter::write(const LayerPass& pass) {
  const LayerBody& body = shared_.body(pass.layer);
  forget_loads(pass);
  std::vector<std::pair<const LayerStep*, bool>> steps;  // and whether it is recomputation
  if (!pass.is_backward || pass.part != BackwardPart::kWeight) {
    for (const LayerStep& step : pass.is_backward ? body.recompute : body.forward) {
      steps.emplace_back(&step, pass.is_backward);
    }
  }
  if (pass.is_backward) {
    for (const LayerStep& step : body.backward) {
      if (belongs(step, pass)) {
        steps.emplace_back(&step, false);
      }
    }
  }
  std::vector<int> left(graph_.block_of(pass.layer).ops.size(), 0);  // steps to come, by op
  for (const auto& [step, again] : steps) {
    left[at(std::max(step->op, 0))] += step->op >= 0 ? 1 : 0;
  }
  std::vector<bool> has_begun(left.size(), false);
  for (const auto& [step, again] : steps) {
    if (step->op >= 0 && !has_begun[at(step->op)]) {
      has_begun[at(step->op)] = true;
      write_exchange(InstructionKind::kGatherParameters,
                     pass.layer,
                     step->op,
                     pass.microbatch,
                     op_parameters_[pass.layer][at(step->op)].gathered);
    }
    write_loads(pass, *step);
    write_step(pass, *step, again);
    if (step->op >= 0 && --left[at(step->op)] == 0) {
      end_op(pass, step->op);
    }
  }
}

// Weight parts are the kernels that give nothing but gradients of parameters.
bool LayerWriter::belongs(const LayerStep& step, const LayerPass& pass) const {
  const bool is_weight =
      step.kind == LayerStep::Kind::kOp && step.direction == Direction::kBackwardWeight;
  return pass.part == BackwardPart::kWhole || is_weight == (pass.part == BackwardPart::kWeight);
}

bool LayerWriter::has_weight_part(int layer, int op) {
  const std::vector<LayerStep>& steps = shared_.body(layer).backward;
  return std::any_of(steps.begin(), steps.end(), [op](const LayerStep& step) {
    return step.kind == LayerStep::Kind::kOp && step.op == op &&
           step.direction == Direction::kBackwardWeight;
  });
}

// Whether the weight part, which comes later, still reads a value.
bool LayerWriter::is_read_later(const LayerPass& pass, ValueId id) {
  if (!pass.is_backward || pass.part != BackwardPart::kInput || id < 0) {
    return false;
  }
  const auto [entry, is_new] = read_by_weights_.try_emplace(pass.layer);
  if (is_new) {
    for (const LayerStep& step : shared_.body(pass.layer).backward) {
      if (step.kind == LayerStep::Kind::kOp && step.direction == Direction::kBackwardWeight) {
        entry->second.insert(step.reads.begin(), step.reads.end());
      }
    }
  }
  return entry->second.contains(id);
}

void LayerWriter::end_op(const LayerPass& pass, int op) {
  write_exchange(InstructionKind::kReleaseParameters,
                 pass.layer,
                 op,
                 pass.microbatch,
                 op_parameters_[pass.layer][at(op)].gathered);
  if (!pass.is_backward) {
    return;
  }
  // Gradients are whole after the weight part; ops without one give both at once.
  const bool is_whole = pass.part != BackwardPart::kInput || !has_weight_part(pass.layer, op);
  if (is_whole) {
    write_reductions(pass, op);
  }
}

void LayerWriter::write_reductions(const LayerPass& pass, int op) {
  const OpParameters& parameters = op_parameters_[pass.layer][at(op)];
  write_exchange(InstructionKind::kReduceGradients,
                 pass.layer,
                 op,
                 pass.microbatch,
                 parameters.reduced_by_microbatch);
  if (parameters.reduced_by_step.empty()) {
    return;
  }
  if (has_weight_part(pass.layer, op) ? pass.ends_weights : pass.ends_inputs) {
    write_exchange(InstructionKind::kReduceGradients,
                   pass.layer,
                   op,
                   pass.microbatch,
                   parameters.reduced_by_step);
  }
}

void LayerWriter::write_shared_reductions() {
  for (const auto& [layer, ops] : op_parameters_) {
    for (int op = 0; op < static_cast<int>(ops.size()); ++op) {
      write_exchange(
          InstructionKind::kReduceGradients, layer, op, -1, ops[at(op)].reduced_at_the_end);
    }
  }
}

bool LayerWriter::is_loaded(int layer, ValueId id) const {
  const Value& value = shared_.body(layer).values[at(id)];
  const TensorKind kind = graph_.block_of(layer).tensors[at(value.tensor)].kind;
  return value.kind == Value::Kind::kActivation && shardwise::is_loaded(kind);
}

// Tokens and targets are loaded again in each pass.
void LayerWriter::forget_loads(const LayerPass& pass) {
  ValueBuffers& buffers = values_of(pass.layer, pass.microbatch);
  for (ValueId id = 0; id < static_cast<ValueId>(buffers.size()); ++id) {
    if (is_loaded(pass.layer, id)) {
      buffers[at(id)] = -1;
    }
  }
}

void LayerWriter::write_loads(const LayerPass& pass, const LayerStep& step) {
  for (const ValueId id : step.reads) {
    const ValueBuffers& buffers = values_of(pass.layer, pass.microbatch);
    if (is_loaded(pass.layer, id) && buffers[at(id)] < 0) {
      const BufferId made = buffer(pass.layer, pass.microbatch, id);
      Instruction& load = add(InstructionKind::kLoad);
      load.layer = pass.layer;
      load.microbatch = pass.microbatch;
      load.writes = {made};
    }
  }
}

void LayerWriter::write_step(const LayerPass& pass, const LayerStep& step, bool again) {
  Instruction instruction;
  instruction.layer = pass.layer;
  instruction.microbatch = pass.microbatch;
  instruction.op = step.op;
  instruction.again = again;
  for (const ValueId id : step.reads) {
    instruction.reads.push_back(buffer(pass.layer, pass.microbatch, id));
  }
  for (const ValueId id : step.writes) {
    instruction.writes.push_back(buffer(pass.layer, pass.microbatch, id));
  }
  if (!is_read_later(pass, step.in_place)) {
    instruction.in_place = buffer(pass.layer, pass.microbatch, step.in_place);
  }
  switch (step.kind) {
    case LayerStep::Kind::kOp:
      instruction.kind = InstructionKind::kCompute;
      instruction.direction = step.direction;
      instruction.workspace = step.workspace;
      instruction.internal = internal_collectives(pass.layer, step);
      break;
    case LayerStep::Kind::kCollective:
      instruction.kind = InstructionKind::kCollective;
      instruction.collective = step.collective;
      if (step.collective.kind != CollectiveKind::kSlice) {
        instruction.group = program_.group_of_axes[1U << step.collective.mesh_axis];
      }
      break;
    case LayerStep::Kind::kAccumulate:
      instruction.kind = InstructionKind::kAccumulate;
      break;
  }
  program_.instructions.push_back(std::move(instruction));
}

int LayerWriter::internal_collectives(int layer, const LayerStep& step) {
  int& known = internal_[layer][at(step.op)][static_cast<std::size_t>(step.direction)];
  if (known == kUnknown) {
    const Op& op = graph_.block_of(layer).ops[at(step.op)];
    const LayerPlan& layer_axes = layer_plan(plan_, place_of(plan_, layer));
    std::vector<InternalCollective> collectives = definition_of(op.kind).internal_collectives(
        op,
        layer_axes.op_axes[at(step.op)],
        stage_.mesh,
        step.direction,
        element_bytes(ElementType::kCompute, plan_.precision));
    known = collectives.empty() ? -1 : static_cast<int>(program_.internal.size());
    if (!collectives.empty()) {
      program_.internal.push_back(std::move(collectives));
    }
  }
  return known;
}

}  // namespace shardwise::internal
