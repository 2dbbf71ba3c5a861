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
OpDefinition row_gate_definition();
OpDefinition relative_attention_definition();
OpDefinition latent_attention_definition();
OpDefinition window_attention_definition();
OpDefinition patch_embedding_definition();
OpDefinition class_token_definition();
OpDefinition patch_merge_definition();
OpDefinition pool_definition();
OpDefinition global_pool_definition();
OpDefinition conv2d_definition();
OpDefinition batch_norm_definition();
OpDefinition max_pool_definition();
OpDefinition stack_definition();
OpDefinition unstack_definition();

// 4 x `pairs` x `width` operations for the scores and the weighted values of attention; backward
// recomputes the scores: 5 products to forward's 2 (Dao, FlashAttention-2, section 3.1).
Flops attention_work(double pairs, double width, Direction direction);
// Keys that are computed for each query: half of them under a causal mask (shards of s do even
// work, see Plan::context_chunks), at most `sliding_window`.
double keys_of_query(const OpAttributes& attributes, std::int64_t all_keys);

// Every input is needed again, or nothing is.
SavedForBackward saved_inputs(const Op& op);
SavedForBackward saved_nothing(const Op&);

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
