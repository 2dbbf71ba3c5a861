// How a program is written: StageWriter walks the stage's tasks in the schedule's order and spells
// out each (boundary messages, then the steps of the layer bodies), then the end of the step; at
// last add_frees() finds for every buffer the instruction that uses it last.
#include "lower/lower.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "core/errors.h"
#include "lower/boundary.h"
#include "lower/local_parameters.h"
#include "lower/schedule.h"

namespace shardwise {

namespace {

using internal::Boundary;
using internal::BoundaryMessage;
using internal::Passage;
using internal::RankPlace;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// What all ranks of a plan share.
struct SharedParts {
  SharedParts(const Plan& plan_in, const Graph& graph_in)
      : plan(plan_in),
        graph(graph_in),
        bodies(graph_in.layers.size()),
        boundaries(plan_in, graph_in) {}

  const LayerBody& body(int layer) {
    std::optional<LayerBody>& body = bodies[at(layer)];
    if (!body) {
      body = make_layer_body(graph, plan, layer);
    }
    return *body;
  }

  const Plan& plan;
  const Graph& graph;
  std::vector<std::optional<LayerBody>> bodies;  // by layer
  internal::BoundaryMessages boundaries;
};

// Parameters of one op that take part in one kind of exchange, as indices into Program::parameters.
struct OpParameters {
  std::vector<int> gathered;               // ZeRO 3
  std::vector<int> reduced_by_microbatch;  // gradients are shared out
  std::vector<int> reduced_by_step;
  std::vector<int> updated;
  std::vector<int> gathered_when_updated;  // ZeRO 1 and 2
};

// Buffers of the values of one layer in one micro-batch; -1: not made yet.
using ValueBuffers = std::vector<BufferId>;

class StageWriter {
 public:
  StageWriter(SharedParts& shared, const RankPlace& place)
      : shared_(shared),
        plan_(shared.plan),
        graph_(shared.graph),
        place_(place),
        stage_(plan_.stages[at(place.stage)]),
        boundaries_(shared.boundaries.boundaries_of(place.rank)),
        values_(graph_.layers.size()) {}

  Program write() {
    program_.rank = place_.rank;
    program_.stage = place_.stage;
    program_.precision = plan_.precision;
    program_.mesh = stage_.mesh;
    internal::add_groups(stage_, place_, program_);
    parameter_index_ = internal::add_parameters(plan_, graph_, place_, program_);
    sort_parameters();
    write_tasks();
    write_end_of_step();
    return std::move(program_);
  }

 private:
  // --- parameters -------------------------------------------------------------------------------

  void sort_parameters() {
    op_parameters_.resize(graph_.layers.size());
    for (const ChunkPlan& chunk : stage_.chunks) {
      for (int layer = chunk.first_layer; layer < chunk.end_layer(); ++layer) {
        const Block& block = graph_.block_of(layer);
        op_parameters_[at(layer)].resize(block.ops.size());
        internal_.emplace(layer, std::vector<std::array<int, 4>>(block.ops.size()));
        for (std::array<int, 4>& by_direction : internal_[layer]) {
          by_direction.fill(-2);
        }
      }
    }
    for (const auto& [use, index] : parameter_index_) {
      sort_parameter(use, index, op_parameters_[at(use.layer)][at(use.op)]);
    }
  }

  void sort_parameter(const ParameterPlace& use, int index, OpParameters& of_op) const {
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
      of_op.reduced_by_step.push_back(index);
    }
    const bool stays_whole = parameter.state_sharding == StateSharding::kOptimizer ||
                             parameter.state_sharding == StateSharding::kGradients;
    if (has_state && stays_whole) {
      of_op.gathered_when_updated.push_back(index);
    }
  }

  void write_exchange(
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

  // --- buffers ----------------------------------------------------------------------------------

  ValueBuffers& values_of(int layer, int microbatch) {
    std::vector<ValueBuffers>& by_microbatch = values_[at(layer)];
    by_microbatch.resize(at(plan_.num_microbatches));
    ValueBuffers& buffers = by_microbatch[at(microbatch)];
    if (buffers.empty()) {
      buffers.assign(shared_.body(layer).values.size(), -1);
    }
    return buffers;
  }

  BufferRole role_of(const Value& value, const Tensor& tensor) const {
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
        return BufferRole::kTokens;
      case TensorKind::kTargets:
        return BufferRole::kTargets;
      case TensorKind::kLoss:
        return BufferRole::kLoss;
      default:
        return BufferRole::kActivation;
    }
  }

  // The buffer of a value, made when first asked for.
  BufferId buffer(int layer, int microbatch, ValueId id) {
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
      if (program_.buffers.back().role == BufferRole::kLoss) {
        losses_.push_back(known);
      }
    }
    return known;
  }

  // Lets a value of `to` be the buffer of a value of `from`: a boundary that both layers share.
  void share(int from, ValueId from_value, int to, ValueId to_value, int microbatch) {
    const BufferId shared = buffer(from, microbatch, from_value);
    values_of(to, microbatch)[at(to_value)] = shared;
  }

  // --- steps ------------------------------------------------------------------------------------

  Instruction& add(InstructionKind kind) {
    Instruction& instruction = program_.instructions.emplace_back();
    instruction.kind = kind;
    return instruction;
  }

  // Steps of one phase (forward, or recomputation and backward) of a layer in one micro-batch.
  struct Phase {
    int layer = 0;
    int microbatch = 0;
    bool is_backward = false;
  };

  void write_layer(const Phase& phase) {
    const LayerBody& body = shared_.body(phase.layer);
    forget_loads(phase);
    std::vector<std::pair<const LayerStep*, bool>> steps;  // and whether it is recomputation
    for (const LayerStep& step : phase.is_backward ? body.recompute : body.forward) {
      steps.emplace_back(&step, phase.is_backward);
    }
    if (phase.is_backward) {
      for (const LayerStep& step : body.backward) {
        steps.emplace_back(&step, false);
      }
    }
    std::vector<int> left(graph_.block_of(phase.layer).ops.size(), 0);  // steps to come, by op
    for (const auto& [step, again] : steps) {
      left[at(std::max(step->op, 0))] += step->op >= 0 ? 1 : 0;
    }
    std::vector<bool> has_begun(left.size(), false);
    for (const auto& [step, again] : steps) {
      if (step->op >= 0 && !has_begun[at(step->op)]) {
        has_begun[at(step->op)] = true;
        write_exchange(InstructionKind::kGatherParameters,
                       phase.layer,
                       step->op,
                       phase.microbatch,
                       op_parameters_[at(phase.layer)][at(step->op)].gathered);
      }
      write_loads(phase, *step);
      write_step(phase, *step, again);
      if (step->op >= 0 && --left[at(step->op)] == 0) {
        end_op(phase, step->op);
      }
    }
  }

  void end_op(const Phase& phase, int op) {
    const OpParameters& parameters = op_parameters_[at(phase.layer)][at(op)];
    write_exchange(InstructionKind::kReleaseParameters,
                   phase.layer,
                   op,
                   phase.microbatch,
                   parameters.gathered);
    if (!phase.is_backward) {
      return;
    }
    write_exchange(InstructionKind::kReduceGradients,
                   phase.layer,
                   op,
                   phase.microbatch,
                   parameters.reduced_by_microbatch);
    // Every schedule ends with the last micro-batch's backward.
    if (phase.microbatch + 1 == plan_.num_microbatches) {
      write_exchange(InstructionKind::kReduceGradients,
                     phase.layer,
                     op,
                     phase.microbatch,
                     parameters.reduced_by_step);
    }
  }

  bool is_loaded(int layer, ValueId id) const {
    const Value& value = shared_.body(layer).values[at(id)];
    const TensorKind kind = graph_.block_of(layer).tensors[at(value.tensor)].kind;
    return value.kind == Value::Kind::kActivation &&
           (kind == TensorKind::kTokens || kind == TensorKind::kTargets);
  }

  // Tokens and targets are loaded again in each phase.
  void forget_loads(const Phase& phase) {
    ValueBuffers& buffers = values_of(phase.layer, phase.microbatch);
    for (ValueId id = 0; id < static_cast<ValueId>(buffers.size()); ++id) {
      if (is_loaded(phase.layer, id)) {
        buffers[at(id)] = -1;
      }
    }
  }

  void write_loads(const Phase& phase, const LayerStep& step) {
    for (const ValueId id : step.reads) {
      const ValueBuffers& buffers = values_of(phase.layer, phase.microbatch);
      if (is_loaded(phase.layer, id) && buffers[at(id)] < 0) {
        const BufferId made = buffer(phase.layer, phase.microbatch, id);
        Instruction& load = add(InstructionKind::kLoad);
        load.layer = phase.layer;
        load.microbatch = phase.microbatch;
        load.writes = {made};
      }
    }
  }

  void write_step(const Phase& phase, const LayerStep& step, bool again) {
    Instruction instruction;
    instruction.layer = phase.layer;
    instruction.microbatch = phase.microbatch;
    instruction.op = step.op;
    instruction.again = again;
    for (const ValueId id : step.reads) {
      instruction.reads.push_back(buffer(phase.layer, phase.microbatch, id));
    }
    for (const ValueId id : step.writes) {
      instruction.writes.push_back(buffer(phase.layer, phase.microbatch, id));
    }
    instruction.in_place = buffer(phase.layer, phase.microbatch, step.in_place);
    switch (step.kind) {
      case LayerStep::Kind::kOp:
        instruction.kind = InstructionKind::kCompute;
        instruction.direction = step.direction;
        instruction.workspace = step.workspace;
        instruction.internal = internal_collectives(phase.layer, step);
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

  int internal_collectives(int layer, const LayerStep& step) {
    int& known = internal_[layer][at(step.op)][static_cast<std::size_t>(step.direction)];
    if (known == -2) {
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

  // --- tasks and their boundaries ---------------------------------------------------------------

  int virtual_stage(const StageTask& task) const {
    return task.chunk * plan_.num_stages() + place_.stage;
  }
  int last_virtual_stage() const { return plan_.num_stages() * plan_.num_chunks() - 1; }

  void write_tasks() {
    const PipelineShape shape{plan_.num_stages(), plan_.num_microbatches, plan_.num_chunks()};
    const StageOrder order = stage_order(plan_.schedule, shape, place_.stage);
    post_receives(order.front());
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i + 1 < order.size()) {
        post_receives(order[i + 1]);
      }
      write_task(order[i]);
    }
    wait_for(sends_[0]);
    wait_for(sends_[1]);
  }

  // Where a task's tensor comes from (forward: the virtual stage before; backward: after it).
  bool has_source(const StageTask& task) const {
    return task.is_forward ? virtual_stage(task) > 0 : virtual_stage(task) < last_virtual_stage();
  }
  bool has_target(const StageTask& task) const {
    return task.is_forward ? virtual_stage(task) < last_virtual_stage() : virtual_stage(task) > 0;
  }
  const Boundary& boundary_at(int k) const { return boundaries_[at(k)]; }
  int source_boundary(const StageTask& task) const {
    return task.is_forward ? virtual_stage(task) - 1 : virtual_stage(task);
  }
  int target_boundary(const StageTask& task) const {
    return task.is_forward ? virtual_stage(task) : virtual_stage(task) - 1;
  }
  static const Passage& passage(const Boundary& boundary, bool is_forward) {
    return is_forward ? boundary.forward : boundary.backward;
  }

  // Layer and value in which a task's tensor arrives / leaves.
  std::pair<int, ValueId> arriving(const StageTask& task) {
    const ChunkPlan& chunk = stage_.chunks[at(task.chunk)];
    const int layer = task.is_forward ? chunk.first_layer : chunk.end_layer() - 1;
    const LayerBody& body = shared_.body(layer);
    return {layer, task.is_forward ? body.input : body.output_gradient};
  }
  std::pair<int, ValueId> leaving(const StageTask& task) {
    const ChunkPlan& chunk = stage_.chunks[at(task.chunk)];
    const int layer = task.is_forward ? chunk.end_layer() - 1 : chunk.first_layer;
    const LayerBody& body = shared_.body(layer);
    return {layer, task.is_forward ? body.output : body.input_gradient};
  }

  // Unique among all messages of a step between two ranks in one direction.
  int tag_of(const BoundaryMessage& message, int boundary, bool is_forward, int microbatch) const {
    const int in_passage = 2 * message.number + (is_forward ? 0 : 1);
    return boundary + last_virtual_stage() * (microbatch + plan_.num_microbatches * in_passage);
  }

  int add_transfer(bool sends, const BoundaryMessage& message, int tag, BufferId buffer_id) {
    program_.transfers.push_back({sends, message.peer, tag, buffer_id, message.box, message.bytes});
    return static_cast<int>(program_.transfers.size()) - 1;
  }

  void post_receives(const StageTask& task) {
    if (!has_source(task)) {
      return;
    }
    const int k = source_boundary(task);
    const Passage& from = passage(boundary_at(k), task.is_forward);
    const auto [layer, value] = arriving(task);
    std::vector<int>& posted = receives_[task_key(task)];
    for (const BoundaryMessage& message : from.receives) {
      const BufferId target = buffer(layer, task.microbatch, value);
      const int tag = tag_of(message, k, task.is_forward, task.microbatch);
      Instruction& instruction = add(InstructionKind::kPostReceive);
      instruction.microbatch = task.microbatch;
      instruction.layer = layer;
      instruction.writes = {target};
      instruction.transfer = add_transfer(false, message, tag, target);
      posted.push_back(instruction.transfer);
    }
  }

  static std::pair<bool, std::pair<int, int>> task_key(const StageTask& task) {
    return {task.is_forward, {task.microbatch, task.chunk}};
  }

  void wait_for(std::vector<int>& transfers) {
    for (const int transfer : transfers) {
      add(InstructionKind::kWait).transfer = transfer;
    }
    transfers.clear();
  }

  void write_task(const StageTask& task) {
    if (const auto posted = receives_.find(task_key(task)); posted != receives_.end()) {
      wait_for(posted->second);
      receives_.erase(posted);
    }
    const ChunkPlan& chunk = stage_.chunks[at(task.chunk)];
    const int count = static_cast<int>(chunk.layers.size());
    for (int i = 0; i < count; ++i) {
      const int layer = chunk.first_layer + (task.is_forward ? i : count - 1 - i);
      write_layer({layer, task.microbatch, !task.is_forward});
      if (i + 1 < count) {
        hand_on(layer, task);
      }
      if (!task.is_forward && i > 0) {
        forget(layer + 1, task.microbatch);
      }
    }
    if (has_target(task)) {
      write_departure(task);
    }
    if (!task.is_forward) {
      forget(chunk.first_layer, task.microbatch);
    }
  }

  // The neighbour inside the chunk takes the boundary tensor over.
  void hand_on(int layer, const StageTask& task) {
    const LayerBody& here = shared_.body(layer);
    const int next = task.is_forward ? layer + 1 : layer - 1;
    const LayerBody& there = shared_.body(next);
    if (task.is_forward) {
      share(layer, here.output, next, there.input, task.microbatch);
    } else {
      share(layer, here.input_gradient, next, there.output_gradient, task.microbatch);
    }
  }

  void forget(int layer, int microbatch) {
    ValueBuffers().swap(values_[at(layer)][at(microbatch)]);
  }

  void write_departure(const StageTask& task) {
    const int k = target_boundary(task);
    const Boundary& boundary = boundary_at(k);
    const auto [layer, value] = leaving(task);
    const StageTask next{task.is_forward,
                         task.microbatch,
                         (virtual_stage(task) + (task.is_forward ? 1 : -1)) / plan_.num_stages()};
    if (boundary.stays) {
      const auto [next_layer, next_value] = arriving(next);
      share(layer, value, next_layer, next_value, task.microbatch);
      return;
    }
    const Passage& to = passage(boundary, task.is_forward);
    const BufferId source = buffer(layer, task.microbatch, value);
    std::vector<int>& pending = sends_[task.is_forward ? 0 : 1];
    wait_for(pending);
    for (const BoundaryMessage& message : to.sends) {
      const int tag = tag_of(message, k, task.is_forward, task.microbatch);
      Instruction& instruction = add(InstructionKind::kPostSend);
      instruction.microbatch = task.microbatch;
      instruction.layer = layer;
      instruction.reads = {source};
      instruction.transfer = add_transfer(true, message, tag, source);
      pending.push_back(instruction.transfer);
    }
    for (std::size_t i = 0; i < to.copies_from.size(); ++i) {
      const auto [next_layer, next_value] = arriving(next);
      const BufferId target = buffer(next_layer, task.microbatch, next_value);
      const int tag = tag_of(to.copies_from[i], k, task.is_forward, task.microbatch);
      Instruction& instruction = add(InstructionKind::kCopy);
      instruction.microbatch = task.microbatch;
      instruction.layer = layer;
      instruction.reads = {source};
      instruction.writes = {target};
      instruction.transfer = add_transfer(true, to.copies_from[i], tag, source);
      add_transfer(false, to.copies_to[i], tag, target);
    }
  }

  // --- end of the step --------------------------------------------------------------------------

  void write_end_of_step() {
    add(InstructionKind::kWaitReductions);
    for (int t = 0; t < static_cast<int>(program_.tied.size()); ++t) {
      add(InstructionKind::kTiedGradient).tied = t;
    }
    add(InstructionKind::kGradientNorm).reads = losses_;
    for (const ChunkPlan& chunk : stage_.chunks) {
      for (int layer = chunk.first_layer; layer < chunk.end_layer(); ++layer) {
        const std::vector<OpParameters>& ops = op_parameters_[at(layer)];
        for (int op = 0; op < static_cast<int>(ops.size()); ++op) {
          write_exchange(InstructionKind::kUpdate, layer, op, -1, ops[at(op)].updated);
          write_exchange(
              InstructionKind::kGatherUpdated, layer, op, -1, ops[at(op)].gathered_when_updated);
        }
      }
    }
    for (int t = 0; t < static_cast<int>(program_.tied.size()); ++t) {
      add(InstructionKind::kTiedParameter).tied = t;
    }
  }

  SharedParts& shared_;
  const Plan& plan_;
  const Graph& graph_;
  const RankPlace& place_;
  const StagePlan& stage_;
  const std::vector<Boundary> boundaries_;
  Program program_;
  internal::ParameterIndex parameter_index_;
  std::vector<std::vector<OpParameters>> op_parameters_;     // by layer, op
  std::map<int, std::vector<std::array<int, 4>>> internal_;  // by layer, op, direction; -2 unknown
  std::vector<std::vector<ValueBuffers>> values_;            // by layer, micro-batch
  std::map<std::pair<bool, std::pair<int, int>>, std::vector<int>> receives_;  // posted, by task
  std::array<std::vector<int>, 2> sends_;  // under way: forward, backward
  std::vector<BufferId> losses_;
};

// Buffers that an instruction uses. A send's buffer is in use until the wait.
template <typename Use>
void for_each_use(const Program& program, const Instruction& instruction, Use use) {
  for (const BufferId id : instruction.reads) {
    use(id);
  }
  for (const BufferId id : instruction.writes) {
    if (id >= 0) {
      use(id);
    }
  }
  if (instruction.kind == InstructionKind::kWait) {
    use(program.transfers[at(instruction.transfer)].buffer);
  }
}

// Frees every buffer where it is used last.
void add_frees(Program& program) {
  std::vector<bool> is_used_later(program.buffers.size(), false);
  for (auto i = program.instructions.rbegin(); i != program.instructions.rend(); ++i) {
    for_each_use(program, *i, [&](BufferId id) {
      if (!is_used_later[at(id)]) {
        is_used_later[at(id)] = true;
        i->frees.push_back(id);
      }
    });
  }
}

Program lower_rank(SharedParts& shared, int rank) {
  const RankPlace place = internal::find_rank(shared.plan, rank);
  if (place.stage < 0) {
    Program idle;
    idle.rank = rank;
    idle.precision = shared.plan.precision;
    idle.group_of_axes.assign(1U << kMeshAxes, -1);
    idle.instructions.emplace_back().kind = InstructionKind::kGradientNorm;
    return idle;
  }
  Program program = StageWriter(shared, place).write();
  add_frees(program);
  return program;
}

}  // namespace

Program lower(const Plan& plan, const Graph& graph, int rank) {
  SharedParts shared(plan, graph);
  return lower_rank(shared, rank);
}

std::vector<Program> lower_all(const Plan& plan, const Graph& graph, int world) {
  int ranks = world;
  if (world == 0) {
    for (const StagePlan& stage : plan.stages) {
      ranks = std::max(ranks, 1 + *std::max_element(stage.devices.begin(), stage.devices.end()));
    }
  }
  SharedParts shared(plan, graph);
  std::vector<Program> programs;
  for (int rank = 0; rank < ranks; ++rank) {
    programs.push_back(lower_rank(shared, rank));
  }
  return programs;
}

}  // namespace shardwise
