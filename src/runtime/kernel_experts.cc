// experts: x [b, s, h], weights and ids [b, s, k], gate and up [e, f, h], down [e, h, f] ->
// [b, s, h]: the sum over a token's experts of weight * down(act(gate x) * up x).
//
// Backward sends the tokens again and recomputes gate and up (keeping them would cost k times
// the activations of a dense layer): 8 products instead of 6, and no result travels again. The
// gradient of a routing weight is taken where the expert is, as the product of act(gate x) * up x
// with the gradient that down passes back, so it needs neither the down product nor its result.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>

#include "runtime/activation_function.h"
#include "runtime/expert_dispatch.h"
#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

enum Parameter : std::size_t { kGate, kUp, kDown };

// [tokens, last dimension]
at::Tensor token_rows(const at::Tensor& tensor) {
  return tensor.reshape({tensor.size(0) * tensor.size(1), tensor.size(2)});
}

// Sum of `rows` for each of `count` tokens.
at::Tensor sum_by_token(const at::Tensor& rows, const at::Tensor& tokens, std::int64_t count) {
  return at::zeros({count, rows.size(1)}, rows.options()).index_add_(0, tokens, rows);
}

// gradient of parameter[expert] += left^T right
void add_product(const KernelContext& context,
                 Parameter parameter,
                 std::int64_t expert,
                 const at::Tensor& left,
                 const at::Tensor& right) {
  at::Tensor accumulator = context.parameter_gradients[parameter].select(0, expert);
  if (accumulator.scalar_type() == left.scalar_type()) {
    accumulator.addmm_(left.t(), right, /*beta=*/context.accumulate ? 1 : 0);
  } else if (context.accumulate) {
    accumulator.add_(at::mm(left.t(), right));
  } else {
    accumulator.copy_(at::mm(left.t(), right));
  }
}

// Calls body(expert, first row, rows) for every expert of this rank.
template <typename Body>
void for_each_expert(const ExpertDispatch& dispatch, const Body& body) {
  std::int64_t first = 0;
  for (std::size_t e = 0; e < dispatch.rows_of_experts().size(); ++e) {
    const std::int64_t rows = dispatch.rows_of_experts()[e];
    body(static_cast<std::int64_t>(e), first, rows);
    first += rows;
  }
}

class ExpertsKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    const at::Tensor& x = inputs[0];
    const ActivationFunction function = activation_function(context.op->attributes.function);
    const ExpertDispatch dispatch(context, token_rows(inputs[2]));
    const at::Tensor rows = dispatch.to_experts(token_rows(x).index_select(0, dispatch.tokens()));
    const at::Tensor results = at::empty_like(rows);
    for_each_expert(dispatch, [&](std::int64_t e, std::int64_t first, std::int64_t count) {
      const at::Tensor part = rows.narrow(0, first, count);
      const at::Tensor hidden = at::mm(part, context.parameters[kGate].select(0, e).t());
      const at::Tensor up = at::mm(part, context.parameters[kUp].select(0, e).t());
      activate_gated(function, hidden, up, hidden);
      at::Tensor result = results.narrow(0, first, count);
      at::mm_out(result, hidden, context.parameters[kDown].select(0, e).t());
    });
    const at::ScalarType exact = accumulation_type(x);
    const at::Tensor weights = inputs[1].reshape({-1, 1}).index_select(0, dispatch.pairs());
    const at::Tensor weighted = dispatch.from_experts(results).to(exact).mul_(weights.to(exact));
    return {sum_by_token(weighted, dispatch.tokens(), x.size(0) * x.size(1))
                .to(x.scalar_type())
                .view(x.sizes())};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    const at::Tensor& x = in.saved_inputs[0];
    const ActivationFunction function = activation_function(context.op->attributes.function);
    const at::ScalarType exact = accumulation_type(x);
    const ExpertDispatch dispatch(context, token_rows(in.saved_inputs[2]));
    const auto dispatched = [&dispatch](const at::Tensor& tensor) {
      return dispatch.to_experts(token_rows(tensor).index_select(0, dispatch.tokens()));
    };
    const at::Tensor rows = dispatched(x);
    const at::Tensor dy_rows = dispatched(in.output_gradients[0]);
    const at::Tensor weights =
        dispatch.to_experts(in.saved_inputs[1].reshape({-1, 1}).index_select(0, dispatch.pairs()));
    const at::Tensor drows = at::empty_like(rows);
    const at::Tensor dweights = at::empty(weights.sizes(), weights.options().dtype(exact));
    for_each_expert(dispatch, [&](std::int64_t e, std::int64_t first, std::int64_t count) {
      const at::Tensor x_part = rows.narrow(0, first, count);
      const at::Tensor dy = dy_rows.narrow(0, first, count);
      const at::Tensor weight = weights.narrow(0, first, count);
      const at::Tensor gate = at::mm(x_part, context.parameters[kGate].select(0, e).t());
      const at::Tensor up = at::mm(x_part, context.parameters[kUp].select(0, e).t());
      const at::Tensor hidden = at::empty_like(gate);
      activate_gated(function, gate, up, hidden);
      at::Tensor dhidden = at::mm(dy, context.parameters[kDown].select(0, e));
      dweights.narrow(0, first, count)
          .copy_(at::mul(dhidden, hidden).sum(1, /*keepdim=*/true, exact));
      add_product(context, kDown, e, dy, hidden.mul_(weight));
      dhidden.mul_(weight);
      const at::Tensor& dgate = hidden;  // no longer needed
      const at::Tensor dup = at::empty_like(up);
      activate_gated_backward(function, dhidden, gate, up, dgate, dup);
      add_product(context, kGate, e, dgate, x_part);
      add_product(context, kUp, e, dup, x_part);
      at::Tensor dx_part = drows.narrow(0, first, count);
      at::mm_out(dx_part, dgate, context.parameters[kGate].select(0, e));
      dx_part.addmm_(dup, context.parameters[kUp].select(0, e));
    });
    const at::Tensor dx = sum_by_token(
        dispatch.from_experts(drows).to(exact), dispatch.tokens(), x.size(0) * x.size(1));
    const at::Tensor dw = at::zeros({in.saved_inputs[1].numel(), 1}, dweights.options())
                              .index_copy_(0, dispatch.pairs(), dispatch.from_experts(dweights));
    return {dx.to(x.scalar_type()).view(x.sizes()),
            dw.to(x.scalar_type()).view(in.saved_inputs[1].sizes()),
            at::Tensor()};
  }
};

}  // namespace

const Kernel& experts_kernel() {
  static const ExpertsKernel kernel;
  return kernel;
}

}  // namespace shardwise
