#include "profile/op_timer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <utility>

#include "core/errors.h"
#include "runtime/kernel.h"

namespace shardwise {

namespace {

std::size_t at_index(int index) { return static_cast<std::size_t>(index); }

at::ScalarType scalar_type(Precision precision) {
  return precision == Precision::kFloat32 ? at::kFloat : at::kBFloat16;
}

// Local shape of an operand; a dimension without loop axis (positions) is `other` long.
std::vector<std::int64_t> operand_shape(const Op& op,
                                        const Operand& operand,
                                        const std::vector<std::int64_t>& sizes,
                                        std::int64_t other) {
  std::vector<std::int64_t> shape;
  for (const std::vector<int>& dim : operand.dims) {
    std::int64_t size = other;
    for (const int axis : dim) {
      if (op.axes[at_index(axis)].sharding != AxisSharding::kExchange) {
        size = sizes[at_index(axis)];
        break;
      }
    }
    shape.push_back(size);
  }
  return shape;
}

std::int64_t axis_size(const Op& op, const std::vector<std::int64_t>& sizes, const char* name) {
  const int axis = axis_index(op, name);
  return axis < 0 ? 1 : sizes[at_index(axis)];
}

// Integer operands index the vocabulary or the experts.
std::int64_t index_bound(const Op& op, const std::vector<std::int64_t>& sizes) {
  return axis_size(op, sizes, op.kind == OpKind::kExperts ? "e" : "v");
}

bool is_integer_input(const Op& op, std::size_t input) {
  return (op.kind == OpKind::kEmbedding && input == 0) ||
         (op.kind == OpKind::kCrossEntropy && input == 1) ||
         (op.kind == OpKind::kExperts && input == 2);
}

// A write pass that leaves the values as they are and the tensor in cache.
void warm(at::Tensor& tensor) {
  if (tensor.is_floating_point()) {
    tensor.mul_(1);
  }
}

template <typename Run>
Seconds timed(const Run& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return Seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

}  // namespace

struct TimedOp::State {
  RequiredOp required;
  KernelContext context;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> output_gradients;
  std::vector<at::Tensor> results;  // of forward: outputs, then statistics
  Bytes memory{0};

  // Attention whose queries are a shard of the sequence: the op is as long as its keys again, and
  // this rank the first of as many context shards.
  void set_context_shard() {
    const int s = axis_index(required.op, "s");
    const std::int64_t queries = axis_size(required.op, required.sizes, "s");
    const std::int64_t keys = axis_size(required.op, required.sizes, "t");
    if (required.op.kind != OpKind::kAttention || queries == 0 || queries >= keys) {
      return;
    }
    required.op.axes[at_index(s)].size = keys;
    context.mesh.sizes[1] = static_cast<int>(keys / queries);
    context.assignment[1] = static_cast<std::int8_t>(s);
    context.context_chunks = context.mesh.sizes[1];
    context.sequence = keys;
  }

  void add_memory(const at::Tensor& tensor) {
    memory += Bytes(tensor.numel() * static_cast<std::int64_t>(tensor.element_size()));
  }

  Kernel::BackwardInputs backward_inputs() const {
    const SavedForBackward saved = definition_of(required.op.kind).saved(required.op);
    Kernel::BackwardInputs in;
    in.output_gradients = output_gradients;
    for (const int input : saved.inputs) {
      in.saved_inputs.push_back(inputs[at_index(input)]);
    }
    for (const int output : saved.outputs) {
      in.saved_outputs.push_back(results[at_index(output)]);
    }
    for (std::size_t s = 0; s < saved.statistics.size(); ++s) {
      in.statistics.push_back(results[required.op.outputs.size() + s]);
    }
    return in;
  }
};

TimedOp::TimedOp(const RequiredOp& required, Precision precision)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.required = required;
  state.context.op = &state.required.op;
  state.context.sizes = required.sizes;
  state.context.sequence = axis_size(required.op, required.sizes, "s");
  state.set_context_shard();
  const Op& op = state.required.op;
  const at::TensorOptions floating = at::TensorOptions().dtype(scalar_type(precision));
  const std::int64_t positions = state.context.sequence;
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    const std::vector<std::int64_t> shape =
        operand_shape(op, op.inputs[i], required.sizes, positions);
    state.inputs.push_back(
        is_integer_input(op, i)
            ? at::randint(0, index_bound(op, required.sizes), shape, at::TensorOptions(at::kLong))
            : at::randn(shape, floating));
    state.add_memory(state.inputs.back());
  }
  for (const Operand& parameter : op.parameters) {
    const std::vector<std::int64_t> shape = operand_shape(op, parameter, required.sizes, positions);
    state.context.parameters.push_back(at::randn(shape, floating).mul_(0.02));
    state.context.parameter_gradients.push_back(at::zeros(shape, at::TensorOptions(at::kFloat)));
    state.add_memory(state.context.parameters.back());
    state.add_memory(state.context.parameter_gradients.back());
  }
  if (op.kind == OpKind::kCrossEntropy) {
    return;  // the loss is where gradients begin
  }
  const std::size_t outputs = op.kind == OpKind::kRouter ? 1 : op.outputs.size();
  for (std::size_t o = 0; o < outputs; ++o) {
    state.output_gradients.push_back(
        at::randn(operand_shape(op, op.outputs[o], required.sizes, positions), floating));
    state.add_memory(state.output_gradients.back());
    state.add_memory(state.output_gradients.back());  // the output itself
  }
}

TimedOp::~TimedOp() = default;
TimedOp::TimedOp(TimedOp&&) noexcept = default;
TimedOp& TimedOp::operator=(TimedOp&&) noexcept = default;

const RequiredOp& TimedOp::required() const { return state_->required; }
Bytes TimedOp::memory() const { return state_->memory; }

Seconds TimedOp::measure_forward() {
  for (at::Tensor& input : state_->inputs) {
    warm(input);
  }
  return timed([&] {
    state_->results =
        kernel_of(state_->required.op.kind).forward(state_->context, state_->inputs, {});
  });
}

Seconds TimedOp::measure(Direction direction) {
  if (direction == Direction::kForward) {
    return measure_forward();
  }
  SHARDWISE_CHECK(!state_->results.empty(), "backward is measured after forward");
  for (at::Tensor& gradient : state_->output_gradients) {
    warm(gradient);
  }
  const Kernel& kernel = kernel_of(state_->required.op.kind);
  const Kernel::BackwardInputs in = state_->backward_inputs();
  std::vector<at::Tensor> gradients;
  return timed([&] {
    if (direction == Direction::kBackwardInput) {
      gradients = kernel.backward_input(state_->context, in);
    } else if (direction == Direction::kBackwardWeight) {
      kernel.backward_weight(state_->context, in);
    } else {
      gradients = kernel.backward(state_->context, in, /*needs_input=*/true);
    }
  });
}

void TimedOp::forget() { state_->results.clear(); }

}  // namespace shardwise
