#include "runtime/executor.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <new>

#include "core/errors.h"
#include "runtime/evaluation_program.h"
#include "runtime/layout_conversion.h"
#include "runtime/tied_exchange.h"

namespace shardwise {
namespace {

// Whole gradients that wait for their reduce-scatter: more would cost memory that no account has.
constexpr int kOpenReductions = 2;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

bool contains(const std::vector<BufferId>& ids, BufferId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Whether no other slot or view holds the tensor's storage: a gradient may be that of two tensors.
bool is_sole_holder(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.storage().use_count() == 1;
}

const char* name_of(Direction direction) {
  switch (direction) {
    case Direction::kForward:
      return "forward";
    case Direction::kBackwardInput:
    case Direction::kBackwardWeight:
    case Direction::kBackward:
      return "backward";
  }
  return "kernel";
}

}  // namespace

struct Executor::Run {
  BatchSource* batches = nullptr;
  bool learns = true;
  std::int64_t step = 0;
  double learning_rate = 0;
  const std::function<void()>* before_update = nullptr;
  StepResult result;
  double gradient_factor = 1;
};

Executor::Executor(const Program& program,
                   const Graph& graph,
                   const Plan& plan,
                   Communicator& communicator,
                   const Options& options)
    : program_(program),
      graph_(graph),
      plan_(plan),
      communicator_(communicator),
      options_(options),
      compute_type_(program.precision == Precision::kBFloat16 ? at::kBFloat16 : at::kFloat),
      groups_(plan, program, communicator),
      parameters_(program, graph, options.seed),
      slots_(program.buffers.size()),
      messages_(program.transfers.size()) {
  if (program.stage >= 0) {
    const std::vector<int>& devices = plan.stages[at(program.stage)].devices;
    const auto place = std::find(devices.begin(), devices.end(), program.rank);
    coordinates_ = coordinates_of(program.mesh, static_cast<int>(place - devices.begin()));
    prepare_contexts();
  }
}

Executor::~Executor() = default;

void Executor::prepare_contexts() {
  for (const Instruction& instruction : program_.instructions) {
    const std::pair<int, int> key{instruction.layer, instruction.op};
    if (instruction.kind != InstructionKind::kCompute || contexts_.contains(key)) {
      continue;
    }
    const Op& op = graph_.block_of(instruction.layer).ops[at(instruction.op)];
    KernelContext context;
    context.op = &op;
    context.assignment =
        layer_plan(plan_, place_of(plan_, instruction.layer)).op_axes[at(instruction.op)];
    context.mesh = program_.mesh;
    context.coordinates = coordinates_;
    context.sizes = local_axis_sizes(op, context.assignment, context.mesh);
    for (int m = 0; m < kMeshAxes; ++m) {
      context.groups[at(m)] = groups_.along(m);
    }
    context.context_chunks = plan_.context_chunks;
    context.sequence = plan_.sequence;
    context.loss_scale = 1.0 / static_cast<double>(plan_.batch * plan_.sequence);
    if (op.kind == OpKind::kExperts) {
      context.routed_counts = &routed_counts_[key];
    }
    if (op.kind == OpKind::kCrossEntropy) {
      counts_loss_ = true;
      for (int m = 0; m < kMeshAxes; ++m) {
        // Partial on assigned axes, equal on the others.
        counts_loss_ =
            counts_loss_ && (context.assignment[at(m)] != kUnassigned || coordinates_[at(m)] == 0);
      }
    }
    contexts_.emplace(key, std::move(context));
    op_parameters_[key].assign(op.parameters.size(), -1);
  }
  for (int p = 0; p < static_cast<int>(program_.parameters.size()); ++p) {
    for (const ParameterPlace& use : program_.parameters[at(p)].uses) {
      op_parameters_[{use.layer, use.op}][at(use.index)] = p;
    }
  }
}

StepResult Executor::run_step(std::int64_t step,
                              double learning_rate,
                              BatchSource& batches,
                              const std::function<void()>& before_update) {
  Run run;
  run.batches = &batches;
  run.step = step;
  run.learning_rate = learning_rate;
  run.before_update = &before_update;
  if (options_.activity != nullptr) {
    options_.activity->set_step(step);
  }
  for (auto& [key, counts] : routed_counts_) {
    counts.clear();
  }
  run_program(program_, run);
  parameters_.clear_gradients();
  return run.result;
}

double Executor::evaluate(BatchSource& batches) {
  if (forward_.instructions.empty()) {
    forward_ = forward_program(program_);
  }
  Run run;
  run.batches = &batches;
  run.learns = false;
  run_program(forward_, run);
  return run.result.loss;
}

void Executor::run_program(const Program& program, Run& run) {
  const c10::InferenceMode no_tape;
  const auto describe = [&](const char* what) {
    return fmt::format("rank {}: {}: {}",
                       communicator_.rank(),
                       options_.activity != nullptr ? options_.activity->describe() : "computing",
                       what);
  };
  try {
    for (const Instruction& instruction : program.instructions) {
      run_instruction(instruction, run);
      for (const BufferId id : instruction.frees) {
        slot(id) = at::Tensor();
      }
    }
  } catch (const c10::Error& error) {
    communicator_.abandon(error.what_without_backtrace());
    throw RuntimeFailure(describe(error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    communicator_.abandon("out of memory");
    throw RuntimeFailure(describe("out of memory"));
  } catch (const std::exception& error) {
    // The communication thread may wait for others: it ends with this rank.
    communicator_.abandon(error.what());
    throw;
  }
}

void Executor::run_instruction(const Instruction& instruction, Run& run) {
  const auto begin = [&](const char* what) {
    if (options_.activity != nullptr) {
      options_.activity->begin(what, instruction.layer, instruction.microbatch);
    }
  };
  switch (instruction.kind) {
    case InstructionKind::kLoad:
      begin("data");
      return load(instruction, run);
    case InstructionKind::kCompute:
      begin(name_of(instruction.direction));
      return compute(instruction);
    case InstructionKind::kCollective:
      begin("layout conversion");
      return convert(instruction);
    case InstructionKind::kAccumulate:
      return accumulate(instruction);
    case InstructionKind::kCopy:
      return copy(instruction);
    case InstructionKind::kPostSend:
      return post_send(instruction.transfer);
    case InstructionKind::kPostReceive:
      return post_receive(instruction.transfer);
    case InstructionKind::kWait:
      begin("transfer between stages");
      return wait_for(instruction.transfer);
    case InstructionKind::kGatherParameters:
      begin("parameter gather");
      return gather_parameters(instruction);
    case InstructionKind::kReleaseParameters:
      for (const int p : instruction.parameters) {
        parameters_.release_weights(p);
      }
      return;
    case InstructionKind::kReduceGradients:
      begin("gradient reduction");
      return reduce_gradients(instruction);
    case InstructionKind::kWaitReductions:
      begin("gradient reduction");
      return communication_thread_.wait_all();
    case InstructionKind::kTiedGradient:
      begin("tied gradient");
      return exchange_tied_gradient(program_.tied[at(instruction.tied)]);
    case InstructionKind::kGradientNorm:
      begin("gradient norm");
      return sum_up(instruction, run);
    case InstructionKind::kUpdate:
      begin("update");
      return update(instruction, run);
    case InstructionKind::kGatherUpdated:
      begin("gather of updated parameters");
      for (const auto& bucket : parameters_.buckets_of(instruction.parameters)) {
        parameters_.gather_updated(bucket, groups_.of_compute(bucket.group));
      }
      return;
    case InstructionKind::kTiedParameter:
      begin("tied parameter");
      return exchange_tied_parameter(program_.tied[at(instruction.tied)]);
  }
}

at::Tensor Executor::make_buffer(BufferId id) const {
  const Buffer& buffer = program_.buffers[at(id)];
  const at::ScalarType type = buffer.type == ElementType::kCompute   ? compute_type_
                              : buffer.type == ElementType::kFloat32 ? at::kFloat
                                                                     : at::kLong;
  return at::empty(buffer.shape, type);
}

void Executor::load(const Instruction& instruction, Run& run) {
  const BufferId id = instruction.writes[0];
  const Buffer& buffer = program_.buffers[at(id)];
  const std::vector<std::int64_t> whole = {plan_.microbatch(), plan_.sequence};
  const Box box = shard_box(whole, buffer.layout, program_.mesh, coordinates_);
  slot(id) = run.batches->load(buffer.role, instruction.microbatch, box);
}

// --- kernels
// --------------------------------------------------------------------------------------

void Executor::compute(const Instruction& instruction) {
  const std::pair<int, int> key{instruction.layer, instruction.op};
  KernelContext context = contexts_.at(key);
  const bool adds_gradients = instruction.direction == Direction::kBackwardWeight ||
                              instruction.direction == Direction::kBackward;
  const std::vector<int>& parameters = op_parameters_.at(key);
  if (adds_gradients) {
    context.accumulate =
        parameters_.open_gradients(parameters) == ParameterStore::GradientMode::kAdd;
  }
  for (const int p : parameters) {
    const ParameterState& state = parameters_.state(p);
    SHARDWISE_CHECK(state.weight.defined(), state.local->name + ": used while it is not gathered");
    context.parameters.push_back(state.weight);
    if (adds_gradients) {
      context.parameter_gradients.push_back(state.gradient);
    }
  }
  if (instruction.direction == Direction::kForward) {
    compute_forward(instruction, context);
  } else {
    compute_backward(instruction, context);
  }
}

void Executor::compute_forward(const Instruction& instruction, const KernelContext& context) {
  std::vector<at::Tensor> inputs;
  for (const BufferId id : instruction.reads) {
    inputs.push_back(slot(id));
  }
  const at::Tensor reuse = instruction.in_place >= 0 ? slot(instruction.in_place) : at::Tensor();
  std::vector<at::Tensor> results = kernel_of(context.op->kind).forward(context, inputs, reuse);
  SHARDWISE_CHECK(results.size() == instruction.writes.size(),
                  context.op->name + ": results do not match the program");
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (instruction.writes[i] >= 0) {
      slot(instruction.writes[i]) = std::move(results[i]);
    }
  }
}

void Executor::compute_backward(const Instruction& instruction, const KernelContext& context) {
  const Op& op = *context.op;
  const Block& block = graph_.block_of(instruction.layer);
  const SavedForBackward saved = definition_of(op.kind).saved(op);
  auto next = instruction.reads.begin();
  const auto take = [&](std::size_t count) {
    std::vector<at::Tensor> tensors;
    for (std::size_t i = 0; i < count; ++i) {
      tensors.push_back(slot(*next++));
    }
    return tensors;
  };
  const auto has_gradient = [&](const Operand& output) {
    return block.tensors[at(output.tensor)].kind == TensorKind::kActivation;
  };
  Kernel::BackwardInputs inputs;
  inputs.output_gradients = take(
      static_cast<std::size_t>(std::count_if(op.outputs.begin(), op.outputs.end(), has_gradient)));
  inputs.saved_inputs = take(saved.inputs.size());
  inputs.saved_outputs = take(saved.outputs.size());
  inputs.statistics = take(saved.statistics.size());

  const Kernel& kernel = kernel_of(op.kind);
  std::vector<at::Tensor> gradients;
  if (instruction.direction == Direction::kBackwardWeight) {
    kernel.backward_weight(context, inputs);
  } else if (instruction.direction == Direction::kBackwardInput) {
    gradients = kernel.backward_input(context, inputs);
  } else {
    const bool needs_input = std::any_of(
        instruction.writes.begin(), instruction.writes.end(), [](BufferId id) { return id >= 0; });
    gradients = kernel.backward(context, inputs, needs_input);
  }
  for (std::size_t i = 0; i < instruction.writes.size(); ++i) {
    if (instruction.writes[i] >= 0) {
      slot(instruction.writes[i]) = std::move(gradients[i]);
    }
  }
}

void Executor::convert(const Instruction& instruction) {
  const CollectiveStep& step = instruction.collective;
  const BufferId from = instruction.reads[0];
  CommunicationGroup* group =
      step.kind == CollectiveKind::kSlice ? nullptr : &groups_.of_compute(instruction.group);
  const bool dies = contains(instruction.frees, from) && is_sole_holder(slot(from));
  slot(instruction.writes[0]) = convert_layout(step,
                                               slot(from).contiguous(),
                                               group,
                                               coordinates_[at(step.mesh_axis)],
                                               program_.mesh.sizes[at(step.mesh_axis)],
                                               dies);
}

void Executor::accumulate(const Instruction& instruction) {
  const at::Tensor& a = slot(instruction.reads[0]);
  const at::Tensor& b = slot(instruction.reads[1]);
  if (instruction.in_place == instruction.reads[0] && is_sole_holder(a)) {
    slot(instruction.writes[0]) = a.add_(b);
  } else if (instruction.in_place == instruction.reads[1] && is_sole_holder(b)) {
    slot(instruction.writes[0]) = b.add_(a);
  } else {
    slot(instruction.writes[0]) = a.add(b);
  }
}

// --- messages
// -------------------------------------------------------------------------------------

void Executor::copy(const Instruction& instruction) {
  const Transfer& from = program_.transfers[at(instruction.transfer)];
  const Transfer& to = program_.transfers[at(instruction.transfer + 1)];
  if (!slot(to.buffer).defined()) {
    slot(to.buffer) = make_buffer(to.buffer);
  }
  part_of(slot(to.buffer), to.box).copy_(part_of(slot(from.buffer), from.box));
}

void Executor::post_send(int transfer) {
  const Transfer& to = program_.transfers[at(transfer)];
  MessageUnderWay& under_way = messages_[at(transfer)];
  // Contiguous: the buffer itself if the message is all of it.
  under_way.staging = part_of(slot(to.buffer), to.box).contiguous();
  under_way.message =
      communicator_.post_send(under_way.staging.const_data_ptr(), to.bytes.count, to.peer, to.tag);
}

void Executor::post_receive(int transfer) {
  const Transfer& from = program_.transfers[at(transfer)];
  MessageUnderWay& under_way = messages_[at(transfer)];
  if (!slot(from.buffer).defined()) {
    slot(from.buffer) = make_buffer(from.buffer);
  }
  const at::Tensor part = part_of(slot(from.buffer), from.box);
  under_way.staging = part.is_contiguous() ? part : at::empty(part.sizes(), part.options());
  under_way.message = communicator_.post_receive(
      under_way.staging.mutable_data_ptr(), from.bytes.count, from.peer, from.tag);
}

void Executor::wait_for(int transfer) {
  const Transfer& what = program_.transfers[at(transfer)];
  MessageUnderWay& under_way = messages_[at(transfer)];
  communicator_.wait(*under_way.message);
  if (!what.sends) {
    const at::Tensor part = part_of(slot(what.buffer), what.box);
    if (part.data_ptr() != under_way.staging.data_ptr()) {
      part.copy_(under_way.staging);
    }
  }
  under_way = {};
}

// --- parameters
// -----------------------------------------------------------------------------------

void Executor::gather_parameters(const Instruction& instruction) {
  for (const auto& bucket : parameters_.buckets_of(instruction.parameters)) {
    parameters_.gather_weights(bucket, groups_.of_compute(bucket.group));
  }
}

void Executor::reduce_gradients(const Instruction& instruction) {
  for (const auto& bucket : parameters_.buckets_of(instruction.parameters)) {
    const bool holds_memory = bucket.sharding >= StateSharding::kGradients;
    communication_thread_.start(
        parameters_.start_reduction(bucket, groups_.of_communication(bucket.group)),
        holds_memory ? kOpenReductions : 0);
  }
}

void Executor::exchange_tied_gradient(const TiedExchange& tied) {
  at::Tensor source;
  if (tied.alias_parameter >= 0) {
    source = parameters_.state(tied.alias_parameter).gradient;
  }
  const std::vector<ReceivedPart> parts =
      exchange_tied(tied.gradient_messages, source, at::kFloat, communicator_);
  if (parts.empty()) {
    return;
  }
  const ParameterState& owner = parameters_.state(tied.owner_parameter);
  const at::Tensor flat = at::zeros({owner.padded()}, at::kFloat);
  const at::Tensor whole = flat.narrow(0, 0, owner.local->elements).view(owner.local->shape);
  for (const ReceivedPart& part : parts) {
    part_of(whole, part.box).copy_(part.values);
  }
  owner.gradient_share.add_(flat.narrow(0, owner.share_begin(), owner.share_size()));
}

void Executor::exchange_tied_parameter(const TiedExchange& tied) {
  at::Tensor source;
  if (tied.owner_parameter >= 0) {
    source = parameters_.state(tied.owner_parameter).weight;
  }
  const std::vector<ReceivedPart> parts =
      exchange_tied(tied.parameter_messages, source, compute_type_, communicator_);
  for (const ReceivedPart& part : parts) {
    part_of(parameters_.state(tied.alias_parameter).weight, part.box).copy_(part.values);
  }
}

void Executor::sum_up(const Instruction& instruction, Run& run) {
  double loss = 0;
  if (counts_loss_) {
    for (const BufferId id : instruction.reads) {
      loss += slot(id).item<double>();
    }
  }
  double squares = 0;
  if (run.learns) {
    for (const ParameterState& state : parameters_.states()) {
      if (state.local->counts_in_norm && state.local->has_optimizer_state()) {
        squares += sum_of_squares(state.gradient_share);
      }
    }
  }
  std::array<double, 2> sums = {loss, squares};
  groups_.world().control_sum(sums);
  run.result = {sums[0], std::sqrt(sums[1])};
  if (!std::isfinite(run.result.loss) || !std::isfinite(run.result.gradient_norm)) {
    throw RuntimeFailure(
        fmt::format("step {}: expected a finite loss and gradient norm, found {} and {}; try a "
                    "lower learning rate or a longer warm-up",
                    run.step,
                    run.result.loss,
                    run.result.gradient_norm));
  }
  run.gradient_factor = clipping_factor(options_.optimizer, run.result.gradient_norm);
  if (run.before_update != nullptr && *run.before_update) {
    (*run.before_update)();
  }
}

void Executor::update(const Instruction& instruction, const Run& run) {
  std::vector<AdamWPiece> pieces;
  for (const int p : instruction.parameters) {
    const ParameterState& state = parameters_.state(p);
    pieces.push_back({state.master,
                      state.gradient_share,
                      state.first_moment,
                      state.second_moment,
                      state.local->decays});
  }
  adamw_step(options_.optimizer, run.step, run.learning_rate, run.gradient_factor, pieces);
  for (const int p : instruction.parameters) {
    parameters_.store_update(p);
  }
}

}  // namespace shardwise
