#include "runtime/kernel.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "core/errors.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

std::size_t at_index(int index) { return static_cast<std::size_t>(index); }

struct AxisRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;  // padding is not part of it
};

// The part of a loop axis that falls to this rank, read off an operand that the axis shards.
AxisRange axis_range(const KernelContext& context, int axis) {
  const Op& op = *context.op;
  const std::array<const std::vector<Operand>*, 3> groups{&op.inputs, &op.parameters, &op.outputs};
  for (const std::vector<Operand>* group : groups) {
    for (const Operand& operand : *group) {
      for (std::size_t dim = 0; dim < operand.dims.size(); ++dim) {
        const std::vector<int>& axes = operand.dims[dim];
        if (std::find(axes.begin(), axes.end(), axis) == axes.end()) {
          continue;
        }
        std::vector<std::int64_t> shape(operand.dims.size(), 1);
        shape[dim] = op.axes[at_index(axis)].size;
        const Layout layout = input_layout(op, operand, context.assignment, context.mesh);
        const Box box = shard_box(shape, layout, context.mesh, context.coordinates);
        return {box.begin[dim], box.end[dim]};
      }
    }
  }
  SHARDWISE_CHECK(false, op.name + ": no operand has axis " + op.axes[at_index(axis)].name);
}

}  // namespace

std::vector<std::int64_t> token_order(std::int64_t sequence, int context_chunks) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(sequence));
  std::iota(order.begin(), order.end(), 0);
  if (context_chunks <= 1) {
    return order;
  }
  const std::int64_t chunks = 2 * static_cast<std::int64_t>(context_chunks);
  SHARDWISE_CHECK(sequence % chunks == 0, "context chunks must divide the sequence");
  const std::int64_t length = sequence / chunks;
  auto next = order.begin();
  for (std::int64_t i = 0; i < chunks; ++i) {
    const std::int64_t chunk = i % 2 == 0 ? i / 2 : chunks - 1 - i / 2;
    std::iota(next, next + length, chunk * length);
    next += length;
  }
  return order;
}

std::vector<std::int64_t> KernelContext::positions() const {
  const int s = axis_index(*op, "s");
  SHARDWISE_CHECK(s >= 0, op->name + " has no sequence axis");
  const std::vector<std::int64_t> order = token_order(sequence, context_chunks);
  const auto begin = order.begin() + axis_offset(s);
  return {begin, begin + sizes[at_index(s)]};
}

std::int64_t KernelContext::axis_offset(int axis) const { return axis_range(*this, axis).begin; }

std::int64_t KernelContext::axis_real_size(int axis) const {
  const AxisRange range = axis_range(*this, axis);
  return std::min(range.end - range.begin, sizes[at_index(axis)]);
}

bool KernelContext::adds_epilogue() const {
  for (int m = 0; m < kMeshAxes; ++m) {
    const int axis = assignment[at_index(m)];
    if (axis == kUnassigned || coordinates[at_index(m)] == 0) {
      continue;
    }
    const bool is_summed =
        std::none_of(op->outputs.begin(), op->outputs.end(), [axis](const Operand& output) {
          return contains_axis(output, axis);
        });
    if (is_summed) {
      return false;
    }
  }
  return true;
}

const Kernel* find_kernel(OpKind kind) {
  switch (kind) {
    case OpKind::kEmbedding:
      return &embedding_kernel();
    case OpKind::kPositionEmbedding:
      return &position_embedding_kernel();
    case OpKind::kLinear:
      return &linear_kernel();
    case OpKind::kAttention:
      return &attention_kernel();
    case OpKind::kLayerNorm:
      return &layer_norm_kernel();
    case OpKind::kRmsNorm:
      return &rms_norm_kernel();
    case OpKind::kRotary:
      return &rotary_kernel();
    case OpKind::kActivation:
      return &activation_kernel();
    case OpKind::kGatedActivation:
      return &gated_activation_kernel();
    case OpKind::kAdd:
      return &add_kernel();
    case OpKind::kCrossEntropy:
      return &cross_entropy_kernel();
    case OpKind::kRouter:
      return &router_kernel();
    case OpKind::kExperts:
      return &experts_kernel();
    default:
      return nullptr;
  }
}

const Kernel& kernel_of(OpKind kind) {
  const Kernel* kernel = find_kernel(kind);
  SHARDWISE_CHECK(kernel != nullptr, "no kernel runs this kind of op");
  return *kernel;
}

}  // namespace shardwise
