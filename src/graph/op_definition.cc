#include "graph/op_definition.h"

#include <array>

#include "core/errors.h"
#include "graph/op_table.h"

namespace shardwise {

const OpDefinition& definition_of(OpKind kind) {
  static const std::array<OpDefinition, kNumOpKinds> definitions = {
      embedding_definition(),
      position_embedding_definition(),
      linear_definition(),
      attention_definition(),
      layer_norm_definition(),
      rms_norm_definition(),
      rotary_definition(),
      activation_definition(),
      gated_activation_definition(),
      add_definition(),
      cross_entropy_definition(),
      router_definition(),
      experts_definition(),
      row_gate_definition(),
      relative_attention_definition(),
      latent_attention_definition(),
      window_attention_definition(),
      patch_embedding_definition(),
      class_token_definition(),
      patch_merge_definition(),
      pool_definition(),
      global_pool_definition(),
      conv2d_definition(),
      batch_norm_definition(),
      max_pool_definition(),
      stack_definition(),
      unstack_definition(),
  };
  const OpDefinition& definition = definitions[static_cast<std::size_t>(kind)];
  SHARDWISE_CHECK(definition.kind == kind, "op definitions stand in the order of OpKind");
  return definition;
}

std::int64_t size_of(const Op& op, std::span<const std::int64_t> sizes, std::string_view axis) {
  const int index = axis_index(op, std::string(axis));
  return index < 0 ? 1 : sizes[static_cast<std::size_t>(index)];
}

std::int64_t operand_elements(const Operand& operand,
                              std::span<const std::int64_t> sizes,
                              const std::vector<LoopAxis>& axes) {
  std::int64_t count = 1;
  for (const std::vector<int>& dim : operand.dims) {
    for (const int axis : dim) {
      if (axes[static_cast<std::size_t>(axis)].sharding != AxisSharding::kExchange) {
        count *= sizes[static_cast<std::size_t>(axis)];
        break;
      }
    }
  }
  return count;
}

Flops no_work(const Op&, std::span<const std::int64_t>, Direction) { return Flops(0); }

Bytes no_workspace(const Op&, std::span<const std::int64_t>, Direction, std::int64_t) {
  return Bytes(0);
}

std::vector<InternalCollective> no_collectives(
    const Op&, const AxisAssignment&, const Mesh&, Direction, std::int64_t) {
  return {};
}

Bytes streamed_traffic(const Op& op,
                       std::span<const std::int64_t> sizes,
                       Direction direction,
                       std::int64_t element) {
  std::int64_t activations = 0;
  for (const Operand& input : op.inputs) {
    activations += operand_elements(input, sizes, op.axes);
  }
  for (const Operand& output : op.outputs) {
    activations += operand_elements(output, sizes, op.axes);
  }
  std::int64_t parameters = 0;
  for (const Operand& parameter : op.parameters) {
    parameters += operand_elements(parameter, sizes, op.axes);
  }
  constexpr std::int64_t kAccumulatorTraffic = 8;  // fp32 read and written
  switch (direction) {
    case Direction::kForward:
    case Direction::kBackwardInput:
      return Bytes((activations + parameters) * element);
    case Direction::kBackwardWeight:
      return Bytes(activations * element + parameters * kAccumulatorTraffic);
    case Direction::kBackward:
      // Reads what forward read and the gradient of the result, writes gradients of the inputs.
      return Bytes((2 * activations + parameters) * element + parameters * kAccumulatorTraffic);
  }
  return Bytes(0);
}

}  // namespace shardwise
