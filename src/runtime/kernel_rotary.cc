// rotary: x [b, s, ..., d], the leading rotary_dims of d turned by the token's position, in halves
// (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin) as transformers' rotate_half. Backward turns back.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mul.h>

#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"
#include "runtime/rotary_table.h"

namespace shardwise {

namespace {

// Product of the dimensions between s and d.
std::int64_t heads(const at::Tensor& x) {
  std::int64_t count = 1;
  for (std::int64_t d = 2; d + 1 < x.dim(); ++d) {
    count *= x.size(d);
  }
  return count;
}

at::Tensor turned(const KernelContext& context, const at::Tensor& x, double direction) {
  const OpAttributes& attributes = context.op->attributes;
  const std::int64_t half = attributes.rotary_dims / 2;
  const std::int64_t width = x.size(-1);
  const RotaryTable table = rotary_table(attributes, context.positions(), x.options());
  // [b, s, heads, d]: all dimensions between s and d turn alike.
  const at::Tensor from = x.reshape({x.size(0), x.size(1), heads(x), width});
  at::Tensor result = at::empty_like(x);
  const at::Tensor to = result.view(from.sizes());
  const at::Tensor cos = table.cos.view({1, x.size(1), 1, half});
  const at::Tensor sin = table.sin.view({1, x.size(1), 1, half});
  const at::Tensor first = from.narrow(3, 0, half);
  const at::Tensor second = from.narrow(3, half, half);
  at::Tensor turned_first = to.narrow(3, 0, half);
  at::Tensor turned_second = to.narrow(3, half, half);
  at::mul_out(turned_first, first, cos);
  turned_first.addcmul_(second, sin, -direction);
  at::mul_out(turned_second, second, cos);
  turned_second.addcmul_(first, sin, direction);
  if (2 * half < width) {
    to.narrow(3, 2 * half, width - 2 * half).copy_(from.narrow(3, 2 * half, width - 2 * half));
  }
  return result;
}

class RotaryKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    return {turned(context, inputs[0], 1)};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    return {turned(context, in.output_gradients[0], -1)};
  }
};

}  // namespace

const Kernel& rotary_kernel() {
  static const RotaryKernel kernel;
  return kernel;
}

}  // namespace shardwise
