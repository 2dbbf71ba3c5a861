// activation, gated activation and add: one result for each element.
#include <ATen/ops/add.h>
#include <ATen/ops/empty_like.h>

#include "runtime/activation_function.h"
#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

// `reuse` if it has the shape of the result, else a new tensor.
at::Tensor result_like(const at::Tensor& x, const at::Tensor& reuse) {
  return reuse.defined() && reuse.sizes() == x.sizes() && reuse.is_contiguous() ? reuse
                                                                                : at::empty_like(x);
}

class ActivationKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor& reuse) const override {
    const at::Tensor out = result_like(inputs[0], reuse);
    activate(activation_function(context.op->attributes.function), inputs[0], out);
    return {out};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    const at::Tensor dx = at::empty_like(in.saved_inputs[0]);
    activate_backward(activation_function(context.op->attributes.function),
                      in.output_gradients[0],
                      in.saved_inputs[0],
                      dx);
    return {dx};
  }
};

class GatedActivationKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor& reuse) const override {
    // The gate is read before it is written, the other factor is not.
    const bool may_reuse = reuse.defined() && reuse.data_ptr() == inputs[0].data_ptr();
    const at::Tensor out = result_like(inputs[0], may_reuse ? reuse : at::Tensor());
    activate_gated(activation_function(context.op->attributes.function), inputs[0], inputs[1], out);
    return {out};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    const at::Tensor dgate = at::empty_like(in.saved_inputs[0]);
    const at::Tensor dup = at::empty_like(in.saved_inputs[1]);
    activate_gated_backward(activation_function(context.op->attributes.function),
                            in.output_gradients[0],
                            in.saved_inputs[0],
                            in.saved_inputs[1],
                            dgate,
                            dup);
    return {dgate, dup};
  }
};

class AddKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext&,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor& reuse) const override {
    at::Tensor out = result_like(inputs[0], reuse);
    at::add_out(out, inputs[0], inputs[1]);
    return {out};
  }

  std::vector<at::Tensor> backward(const KernelContext&,
                                   const BackwardInputs& in,
                                   bool) const override {
    return {in.output_gradients[0], in.output_gradients[0]};
  }
};

}  // namespace

const Kernel& activation_kernel() {
  static const ActivationKernel kernel;
  return kernel;
}

const Kernel& gated_activation_kernel() {
  static const GatedActivationKernel kernel;
  return kernel;
}

const Kernel& add_kernel() {
  static const AddKernel kernel;
  return kernel;
}

}  // namespace shardwise
