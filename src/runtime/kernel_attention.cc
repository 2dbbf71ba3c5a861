// attention: q [b, s, n, r, d], k and v [b, t, n, d] in storage order -> [b, s, n, r, d]; the keys
// are brought to natural order and the rest is attention.h.
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include "runtime/attention.h"
#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

AttentionRule rule_of(const KernelContext& context) {
  const OpAttributes& attributes = context.op->attributes;
  return {attributes.causal, attributes.sliding_window, attributes.scale};
}

at::Tensor index_tensor(const std::vector<std::int64_t>& values, const at::Tensor& like) {
  return at::tensor(values, at::TensorOptions(at::kLong)).to(like.device());
}

// Keys (or values) in natural order.
at::Tensor to_natural(const KernelContext& context, const at::Tensor& keys) {
  if (context.context_chunks <= 1) {
    return keys;
  }
  const std::vector<std::int64_t> order = token_order(context.sequence, context.context_chunks);
  std::vector<std::int64_t> row_of(order.size());
  for (std::size_t row = 0; row < order.size(); ++row) {
    row_of[static_cast<std::size_t>(order[row])] = static_cast<std::int64_t>(row);
  }
  return keys.index_select(1, index_tensor(row_of, keys));
}

at::Tensor to_storage(const KernelContext& context, const at::Tensor& keys) {
  if (context.context_chunks <= 1) {
    return keys;
  }
  return keys.index_select(
      1, index_tensor(token_order(context.sequence, context.context_chunks), keys));
}

class AttentionKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    const AttentionResult result = attention_forward(inputs[0],
                                                     to_natural(context, inputs[1]),
                                                     to_natural(context, inputs[2]),
                                                     context.positions(),
                                                     rule_of(context));
    return {result.output, result.log_sum_exp};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    const AttentionGradients gradients = attention_backward(in.output_gradients[0],
                                                            in.saved_inputs[0],
                                                            to_natural(context, in.saved_inputs[1]),
                                                            to_natural(context, in.saved_inputs[2]),
                                                            {in.saved_outputs[0], in.statistics[0]},
                                                            context.positions(),
                                                            rule_of(context));
    return {gradients.q, to_storage(context, gradients.k), to_storage(context, gradients.v)};
  }
};

}  // namespace

const Kernel& attention_kernel() {
  static const AttentionKernel kernel;
  return kernel;
}

}  // namespace shardwise
