// How a program is written: StageWriter walks the stage's tasks in the schedule's order and spells
// out each (boundary messages; LayerWriter the steps of layers), then the end of the step; at last
// add_frees() finds for every buffer the instruction that uses it last.
#include "lower/lower.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "lower/layer_writer.h"
#include "lower/schedule.h"

namespace shardwise {

namespace {

using internal::Boundary;
using internal::BoundaryMessage;
using internal::LayerWriter;
using internal::Passage;
using internal::RankPlace;
using internal::SharedParts;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

class StageWriter {
 public:
  // `program` has its groups and parameters.
  StageWriter(SharedParts& shared,
              const RankPlace& place,
              const internal::ParameterIndex& parameters,
              Program& program)
      : shared_(shared),
        plan_(shared.plan),
        place_(place),
        stage_(plan_.stages[at(place.stage)]),
        boundaries_(shared.boundaries.boundaries_of(place.rank)),
        program_(program),
        layers_(shared, stage_, parameters, program),
        splits_(traits_of(plan_.schedule).splits_backward) {}

  void write() {
    write_tasks();
    write_end_of_step();
  }

 private:
  // --- tasks and their boundaries ---------------------------------------------------------------

  int index_of(const StageTask& task) const {
    return virtual_stage_index(plan_, {place_.stage, task.chunk});
  }
  int last_virtual_stage() const { return plan_.num_stages() * plan_.num_chunks() - 1; }

  Instruction& add(InstructionKind kind) {
    Instruction& instruction = program_.instructions.emplace_back();
    instruction.kind = kind;
    return instruction;
  }

  void write_tasks() {
    const StageOrder& order = shared_.orders[at(place_.stage)];
    find_last_passes(order);
    due_sends_.resize(order.size());
    std::size_t posted = 0;  // tasks whose receives are posted
    for (std::size_t i = 0; i < order.size(); ++i) {
      // Of this task, the next, and past weight parts, which receive nothing.
      for (; posted < order.size(); ++posted) {
        const bool is_next = posted <= i + 1;
        if (!is_next && !is_weight_part(order[posted - 1])) {
          break;
        }
        post_receives(order[posted]);
      }
      write_task(order[i], i);
    }
    wait_for(sends_[0]);
    wait_for(sends_[1]);
  }

  static bool is_weight_part(const StageTask& task) {
    return !task.is_forward && task.part == BackwardPart::kWeight;
  }

  // By chunk: the last tasks of the order that make gradients of inputs, of weights.
  void find_last_passes(const StageOrder& order) {
    last_inputs_.assign(at(plan_.num_chunks()), 0);
    last_weights_.assign(at(plan_.num_chunks()), 0);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const StageTask& task = order[i];
      if (!task.is_forward && task.part != BackwardPart::kWeight) {
        last_inputs_[at(task.chunk)] = i;
      }
      if (!task.is_forward && task.part != BackwardPart::kInput) {
        last_weights_[at(task.chunk)] = i;
      }
    }
  }

  // Where a task's tensor comes from (forward: the virtual stage before; backward: after it).
  bool has_source(const StageTask& task) const {
    if (is_weight_part(task)) {
      return false;
    }
    return task.is_forward ? index_of(task) > 0 : index_of(task) < last_virtual_stage();
  }
  bool has_target(const StageTask& task) const {
    if (is_weight_part(task)) {
      return false;
    }
    return task.is_forward ? index_of(task) < last_virtual_stage() : index_of(task) > 0;
  }
  const Boundary& boundary_at(int k) const { return boundaries_[at(k)]; }
  int source_boundary(const StageTask& task) const {
    return task.is_forward ? index_of(task) - 1 : index_of(task);
  }
  int target_boundary(const StageTask& task) const {
    return task.is_forward ? index_of(task) : index_of(task) - 1;
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

  // Which messages of which boundary.
  struct PassageOf {
    int boundary = 0;
    bool is_forward = true;
    int microbatch = 0;
  };

  int add_transfer(bool sends,
                   const BoundaryMessage& message,
                   const PassageOf& of,
                   BufferId buffer_id) {
    program_.transfers.push_back({sends,
                                  message.peer,
                                  tag_of(message, of.boundary, of.is_forward, of.microbatch),
                                  buffer_id,
                                  message.box,
                                  message.bytes,
                                  2 * of.boundary + (of.is_forward ? 0 : 1)});
    return static_cast<int>(program_.transfers.size()) - 1;
  }

  void post_receives(const StageTask& task) {
    if (!has_source(task)) {
      return;
    }
    const int k = source_boundary(task);
    const Passage& from = passage(boundary_at(k), task.is_forward);
    const auto [layer, value] = arriving(task);
    const PassageOf of{k, task.is_forward, task.microbatch};
    std::vector<int>& posted = receives_[key_of(task)];
    for (const BoundaryMessage& message : from.receives) {
      const BufferId target = layers_.buffer(layer, task.microbatch, value);
      Instruction& instruction = add(InstructionKind::kPostReceive);
      instruction.microbatch = task.microbatch;
      instruction.layer = layer;
      instruction.writes = {target};
      instruction.transfer = add_transfer(false, message, of, target);
      posted.push_back(instruction.transfer);
    }
  }

  using TaskKey = std::tuple<bool, int, int>;
  static TaskKey key_of(const StageTask& task) {
    return {task.is_forward, task.microbatch, task.chunk};
  }

  void wait_for(std::vector<int>& transfers) {
    for (const int transfer : transfers) {
      add(InstructionKind::kWait).transfer = transfer;
    }
    transfers.clear();
  }

  // --- waits for sends of schedules that split backward ------------------------------------------

  // There stages run ahead of each other, so a rank that waited before its next send could stand
  // between its neighbour and what that one needs first. A send is over for sure once something has
  // come back that its receiver sent later than it used the message: the first such task waits.

  using Positions = std::map<TaskKey, std::size_t>;  // in a stage's order; weight parts left out

  const Positions& positions_of(int stage) {
    const auto [entry, is_new] = positions_.try_emplace(stage);
    if (is_new) {
      const StageOrder& order = shared_.orders[at(stage)];
      for (std::size_t i = 0; i < order.size(); ++i) {
        if (!is_weight_part(order[i])) {
          entry->second[key_of(order[i])] = i;
        }
      }
    }
    return entry->second;
  }

  int stage_of(int index) const { return virtual_stage(plan_, index).stage; }

  // The task before which the sends of the i-th are waited for; none: at the end of the step.
  std::optional<std::size_t> wait_after(std::size_t i) {
    const StageOrder& order = shared_.orders[at(place_.stage)];
    const StageTask& task = order[i];
    const VirtualStage target = virtual_stage(plan_, index_of(task) + (task.is_forward ? 1 : -1));
    const Positions& there = positions_of(target.stage);
    const std::size_t used = there.at({task.is_forward, task.microbatch, target.chunk});
    for (std::size_t later = i + 1; later < order.size(); ++later) {
      const StageTask& next = order[later];
      if (!has_source(next)) {
        continue;
      }
      const VirtualStage source = virtual_stage(plan_, index_of(next) + (next.is_forward ? -1 : 1));
      if (source.stage == target.stage &&
          there.at({next.is_forward, next.microbatch, source.chunk}) >= used) {
        return later;
      }
    }
    return std::nullopt;
  }

  // The i-th of the order.
  void write_task(const StageTask& task, std::size_t i_in_order) {
    if (const auto posted = receives_.find(key_of(task)); posted != receives_.end()) {
      wait_for(posted->second);
      receives_.erase(posted);
    }
    wait_for(due_sends_[i_in_order]);
    const ChunkPlan& chunk = stage_.chunks[at(task.chunk)];
    const int count = static_cast<int>(chunk.layers.size());
    const bool is_over = !task.is_forward && task.part != BackwardPart::kInput;
    for (int i = 0; i < count; ++i) {
      const int layer = chunk.first_layer + (task.is_forward ? i : count - 1 - i);
      layers_.write({layer,
                     task.microbatch,
                     !task.is_forward,
                     task.part,
                     i_in_order == last_inputs_[at(task.chunk)],
                     i_in_order == last_weights_[at(task.chunk)]});
      if (i + 1 < count && !is_weight_part(task)) {
        hand_on(layer, task);
      }
      if (is_over && i > 0) {
        layers_.forget(layer + 1, task.microbatch);
      }
    }
    if (has_target(task)) {
      write_departure(task, i_in_order);
    }
    if (is_over) {
      layers_.forget(chunk.first_layer, task.microbatch);
    }
  }

  // The neighbour inside the chunk takes the boundary tensor over.
  void hand_on(int layer, const StageTask& task) {
    const LayerBody& here = shared_.body(layer);
    const int next = task.is_forward ? layer + 1 : layer - 1;
    const LayerBody& there = shared_.body(next);
    if (task.is_forward) {
      layers_.share(layer, here.output, next, there.input, task.microbatch);
    } else {
      layers_.share(layer, here.input_gradient, next, there.output_gradient, task.microbatch);
    }
  }

  void write_departure(const StageTask& task, std::size_t i_in_order) {
    const int k = target_boundary(task);
    const Boundary& boundary = boundary_at(k);
    const auto [layer, value] = leaving(task);
    const int next_index = index_of(task) + (task.is_forward ? 1 : -1);
    const StageTask next{task.is_forward, task.microbatch, virtual_stage(plan_, next_index).chunk};
    if (boundary.stays) {
      const auto [next_layer, next_value] = arriving(next);
      layers_.share(layer, value, next_layer, next_value, task.microbatch);
      return;
    }
    const Passage& to = passage(boundary, task.is_forward);
    const PassageOf of{k, task.is_forward, task.microbatch};
    const BufferId source = layers_.buffer(layer, task.microbatch, value);
    std::vector<int>* pending = &sends_[task.is_forward ? 0 : 1];
    if (!splits_) {
      wait_for(*pending);
    } else if (const std::optional<std::size_t> later = wait_after(i_in_order)) {
      pending = &due_sends_[*later];
    }
    for (const BoundaryMessage& message : to.sends) {
      Instruction& instruction = add(InstructionKind::kPostSend);
      instruction.microbatch = task.microbatch;
      instruction.layer = layer;
      instruction.reads = {source};
      instruction.transfer = add_transfer(true, message, of, source);
      pending->push_back(instruction.transfer);
    }
    for (std::size_t i = 0; i < to.copies_from.size(); ++i) {
      const auto [next_layer, next_value] = arriving(next);
      const BufferId target = layers_.buffer(next_layer, task.microbatch, next_value);
      Instruction& instruction = add(InstructionKind::kCopy);
      instruction.microbatch = task.microbatch;
      instruction.layer = layer;
      instruction.reads = {source};
      instruction.writes = {target};
      instruction.transfer = add_transfer(true, to.copies_from[i], of, source);
      add_transfer(false, to.copies_to[i], of, target);
    }
  }

  // --- end of the step --------------------------------------------------------------------------

  void write_end_of_step() {
    layers_.write_shared_reductions();
    add(InstructionKind::kWaitReductions);
    for (int t = 0; t < static_cast<int>(program_.tied.size()); ++t) {
      add(InstructionKind::kTiedGradient).tied = t;
    }
    add(InstructionKind::kGradientNorm).reads = layers_.losses();
    layers_.write_updates();
    for (int t = 0; t < static_cast<int>(program_.tied.size()); ++t) {
      add(InstructionKind::kTiedParameter).tied = t;
    }
  }

  SharedParts& shared_;
  const Plan& plan_;
  const RankPlace& place_;
  const StagePlan& stage_;
  const std::vector<Boundary> boundaries_;
  Program& program_;
  LayerWriter layers_;
  std::vector<std::size_t> last_inputs_;  // by chunk, place in the order
  std::vector<std::size_t> last_weights_;
  const bool splits_;                             // the schedule splits backward
  std::map<int, Positions> positions_;            // by stage
  std::vector<std::vector<int>> due_sends_;       // transfers to wait for, by task of the order
  std::map<TaskKey, std::vector<int>> receives_;  // posted
  std::array<std::vector<int>, 2> sends_;         // under way: forward, backward
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
  const StagePlan& stage = shared.plan.stages[at(place.stage)];
  Program program;
  program.rank = rank;
  program.stage = place.stage;
  program.precision = shared.plan.precision;
  program.mesh = stage.mesh;
  internal::add_groups(stage, place, program);
  const internal::ParameterIndex parameters =
      internal::add_parameters(shared.plan, shared.graph, place, program);
  StageWriter(shared, place, parameters, program).write();
  add_frees(program);
  return program;
}

}  // namespace

Program lower(const Plan& plan, const Graph& graph, int rank, const std::vector<PassTimes>& times) {
  SharedParts shared(plan, graph, times);
  return lower_rank(shared, rank);
}

void lower_each(const Plan& plan,
                const Graph& graph,
                std::span<const int> ranks,
                const std::function<void(const Program&)>& use,
                const std::vector<PassTimes>& times) {
  SharedParts shared(plan, graph, times);
  for (const int rank : ranks) {
    use(lower_rank(shared, rank));
  }
}

std::vector<Program> lower_all(const Plan& plan,
                               const Graph& graph,
                               int world,
                               const std::vector<PassTimes>& times) {
  int ranks = world;
  if (world == 0) {
    for (const StagePlan& stage : plan.stages) {
      ranks = std::max(ranks, 1 + *std::max_element(stage.devices.begin(), stage.devices.end()));
    }
  }
  SharedParts shared(plan, graph, times);
  std::vector<Program> programs;
  programs.reserve(at(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    programs.push_back(lower_rank(shared, rank));
  }
  return programs;
}

}  // namespace shardwise
