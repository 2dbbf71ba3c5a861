// router: x [b, s, h], W [e, h] -> weights [b, s, k], expert ids [b, s, k] as transformers'
// Mixtral: softmax over all experts in fp32, the k largest, divided by their sum if normalize_topk.
#include <ATen/ops/_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>

#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

class RouterKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    const at::Tensor& x = inputs[0];
    const at::Tensor& weight = context.parameters[0];
    const OpAttributes& attributes = context.op->attributes;
    const at::Tensor logits = at::mm(as_rows(x, weight.size(1)), weight.t());
    const at::Tensor probabilities =
        at::_softmax(logits.to(accumulation_type(x)), 1, /*half_to_float=*/false);
    auto [chosen, experts] = at::topk(probabilities, attributes.experts_per_token, 1);
    if (attributes.normalize_topk) {
      chosen.div_(chosen.sum(1, /*keepdim=*/true));
    }
    const auto shaped = [&x](const at::Tensor& rows) {
      return rows.contiguous().view({x.size(0), x.size(1), rows.size(1)});
    };
    return {shaped(chosen.to(x.scalar_type())), shaped(experts), shaped(probabilities)};
  }

  // With p the chosen probabilities, S their sum and w = p / S: dp = (dw - sum(dw w)) / S; through
  // the softmax: dlogit_e = p_e (dp_e - sum over chosen of dp p), dp_e = 0 for the others.
  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool needs_input) const override {
    const at::Tensor& x = in.saved_inputs[0];
    const at::Tensor& weight = context.parameters[0];
    const at::Tensor x_rows = as_rows(x, weight.size(1));
    const at::Tensor experts = as_rows(in.saved_outputs[0], in.saved_outputs[0].size(2));
    const at::Tensor probabilities = as_rows(in.statistics[0], in.statistics[0].size(2));
    const at::Tensor dweights = as_rows(in.output_gradients[0], experts.size(1));
    const at::Tensor chosen = probabilities.gather(1, experts);
    at::Tensor dchosen = dweights.to(chosen.scalar_type());
    if (context.op->attributes.normalize_topk) {
      const at::Tensor sum = chosen.sum(1, /*keepdim=*/true);
      const at::Tensor mean = (dchosen * chosen).sum(1, /*keepdim=*/true).div_(sum);
      dchosen = (dchosen - mean).div_(sum);
    }
    const at::Tensor shift = (dchosen * chosen).sum(1, /*keepdim=*/true);
    const at::Tensor dlogits = at::zeros_like(probabilities)
                                   .scatter_(1, experts, dchosen)
                                   .sub_(shift)
                                   .mul_(probabilities)
                                   .to(x.scalar_type());
    add_gradient(context, 0, at::mm(dlogits.t(), x_rows));
    return {needs_input ? at::mm(dlogits, weight).view(x.sizes()) : at::Tensor()};
  }
};

}  // namespace

const Kernel& router_kernel() {
  static const RouterKernel kernel;
  return kernel;
}

}  // namespace shardwise
