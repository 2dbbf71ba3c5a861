// linear: x [b, s, in...] W [out..., in...] (+ bias [out...]) -> [b, s, out...] as one matrix
// product each way; a weight gradient is accumulated by the product itself.
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include <numeric>

#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

// The operands of one call as matrices.
struct Matrices {
  std::int64_t tokens;
  at::Tensor weight;  // [out, in]

  Matrices(const KernelContext& context, const at::Tensor& x)
      : tokens(x.size(0) * x.size(1)), weight(context.parameters[0]) {
    std::int64_t in = 1;
    for (std::int64_t d = 2; d < x.dim(); ++d) {
      in *= x.size(d);
    }
    weight = weight.reshape({weight.numel() / std::max<std::int64_t>(in, 1), in});
  }

  at::Tensor rows(const at::Tensor& tensor, std::int64_t columns) const {
    return tensor.reshape({tokens, columns});
  }
};

std::vector<std::int64_t> shape_with(const at::Tensor& lead, at::IntArrayRef rest) {
  std::vector<std::int64_t> shape{lead.size(0), lead.size(1)};
  shape.insert(shape.end(), rest.begin(), rest.end());
  return shape;
}

class LinearKernel final : public Kernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    const at::Tensor& x = inputs[0];
    const Matrices m(context, x);
    const at::Tensor x_rows = m.rows(x, m.weight.size(1));
    const bool adds_bias = context.parameters.size() > 1 && context.adds_epilogue();
    const at::Tensor y =
        adds_bias
            ? at::addmm(context.parameters[1].reshape({m.weight.size(0)}), x_rows, m.weight.t())
            : at::mm(x_rows, m.weight.t());
    const at::IntArrayRef weight_shape = context.parameters[0].sizes();
    const auto out_dims = weight_shape.size() - static_cast<std::size_t>(x.dim() - 2);
    return {y.view(shape_with(x, weight_shape.slice(0, out_dims)))};
  }

  std::vector<at::Tensor> backward_input(const KernelContext& context,
                                         const BackwardInputs& in) const override {
    const at::Tensor& x = in.saved_inputs[0];
    const Matrices m(context, x);
    return {at::mm(m.rows(in.output_gradients[0], m.weight.size(0)), m.weight).view(x.sizes())};
  }

  void backward_weight(const KernelContext& context, const BackwardInputs& in) const override {
    const at::Tensor& x = in.saved_inputs[0];
    const Matrices m(context, x);
    const at::Tensor x_rows = m.rows(x, m.weight.size(1));
    const at::Tensor dy_rows = m.rows(in.output_gradients[0], m.weight.size(0));
    at::Tensor accumulator = context.parameter_gradients[0].view(m.weight.sizes());
    if (accumulator.scalar_type() == x.scalar_type()) {
      accumulator.addmm_(dy_rows.t(), x_rows, /*beta=*/context.accumulate ? 1 : 0);
    } else {
      add_gradient(context, 0, at::mm(dy_rows.t(), x_rows));
    }
    if (context.parameters.size() > 1) {
      add_gradient(context, 1, at::sum(dy_rows, {0}, /*keepdim=*/false, accumulation_type(x)));
    }
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool needs_input) const override {
    backward_weight(context, in);
    return needs_input ? backward_input(context, in) : std::vector<at::Tensor>(1);
  }
};

}  // namespace

const Kernel& linear_kernel() {
  static const LinearKernel kernel;
  return kernel;
}

}  // namespace shardwise
