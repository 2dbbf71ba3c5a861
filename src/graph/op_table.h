// The definitions of op_*.cc and the parts they share. For src/graph only; others ask
// definition_of.
#pragma once

#include "graph/op_definition.h"

namespace shardwise {

OpDefinition embedding_definition();
OpDefinition position_embedding_definition();
OpDefinition linear_definition();
OpDefinition attention_definition();
OpDefinition layer_norm_definition();
OpDefinition rms_norm_definition();
OpDefinition rotary_definition();
OpDefinition activation_definition();
OpDefinition gated_activation_definition();
OpDefinition add_definition();
OpDefinition cross_entropy_definition();
OpDefinition router_definition();
OpDefinition experts_definition();

// Local size of the loop axis called `axis`, 1 if the op has none.
std::int64_t size_of(const Op& op, std::span<const std::int64_t> sizes, std::string_view axis);

// Elements of the operand's local part, dimensions without loop axis left out.
std::int64_t operand_elements(const Operand& operand,
                              std::span<const std::int64_t> sizes,
                              const std::vector<LoopAxis>& axes);

Flops no_work(const Op&, std::span<const std::int64_t>, Direction);
Bytes no_workspace(const Op&, std::span<const std::int64_t>, Direction, std::int64_t);
std::vector<InternalCollective> no_collectives(
    const Op&, const AxisAssignment&, const Mesh&, Direction, std::int64_t);

// Every input, parameter and output read or written once (twice the activations in backward).
Bytes streamed_traffic(const Op& op,
                       std::span<const std::int64_t> sizes,
                       Direction direction,
                       std::int64_t element);

}  // namespace shardwise
