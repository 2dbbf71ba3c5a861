// layer norm: ATen's own. RMS norm: y = w * (x * rstd), rstd = 1 / sqrt(mean(x^2) + epsilon), the
// inner product rounded to the compute type as transformers' LlamaRMSNorm does; a run of rows at a
// time stays in cache.
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

std::vector<std::int64_t> leading_shape(const at::Tensor& x) {
  return x.sizes().slice(0, static_cast<std::size_t>(x.dim() - 1)).vec();
}

class LayerNormKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    // Parameters in the accumulation type make ATen keep the statistics in it too.
    const at::Tensor& x = inputs[0];
    auto [y, mean, rstd] = at::native_layer_norm(x,
                                                 {x.size(-1)},
                                                 context.parameters[0].to(accumulation_type(x)),
                                                 context.parameters[1].to(accumulation_type(x)),
                                                 context.op->attributes.epsilon);
    return {y, mean.view(leading_shape(x)), rstd.view(leading_shape(x))};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool needs_input) const override {
    const at::Tensor& x = in.saved_inputs[0];
    std::vector<std::int64_t> statistic_shape = leading_shape(x);
    statistic_shape.push_back(1);
    auto [dx, dweight, dbias] =
        at::native_layer_norm_backward(in.output_gradients[0],
                                       x,
                                       {x.size(-1)},
                                       in.statistics[0].view(statistic_shape),
                                       in.statistics[1].view(statistic_shape),
                                       context.parameters[0].to(accumulation_type(x)),
                                       context.parameters[1].to(accumulation_type(x)),
                                       {needs_input, true, true});
    add_gradient(context, 0, dweight);
    add_gradient(context, 1, dbias);
    return {dx};
  }
};

class RmsNormKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    const at::Tensor& x = inputs[0];
    const std::int64_t width = x.size(-1);
    const at::ScalarType exact = accumulation_type(x);
    const at::Tensor& weight = context.parameters[0];
    const at::Tensor y = at::empty_like(x);
    const at::Tensor rstd = at::empty(leading_shape(x), x.options().dtype(exact));
    const at::Tensor x_rows = as_rows(x, width);
    const at::Tensor y_rows = as_rows(y, width);
    const at::Tensor rstd_rows = rstd.view({-1, 1});
    const double scale = 1 / static_cast<double>(width);
    for_rows_in_cache(x, x_rows.size(0), width, [&](std::int64_t first, std::int64_t count) {
      const at::Tensor rows = x_rows.narrow(0, first, count);
      at::Tensor out = y_rows.narrow(0, first, count);
      at::Tensor r = rstd_rows.narrow(0, first, count);
      at::linalg_vector_norm_out(r, rows, 2, at::IntArrayRef{1}, /*keepdim=*/true, exact);
      r.square_().mul_(scale).add_(context.op->attributes.epsilon).rsqrt_();
      at::mul_out(out, rows, r);
      out.mul_(weight);
    });
    return {y, rstd};
  }

  // With g = dy * w and n the width: dx = rstd * g - x * rstd^3 / n * sum(g * x), row by row;
  // dw = sum over rows of dy * x * rstd.
  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool needs_input) const override {
    const at::Tensor& x = in.saved_inputs[0];
    const std::int64_t width = x.size(-1);
    const at::ScalarType exact = accumulation_type(x);
    const at::Tensor weight = context.parameters[0].to(exact);
    const at::Tensor dweight = at::zeros({width}, weight.options());
    const at::Tensor dx = needs_input ? at::empty_like(x) : at::Tensor();
    const at::Tensor x_rows = as_rows(x, width);
    const at::Tensor dy_rows = as_rows(in.output_gradients[0], width);
    const at::Tensor rstd_rows = in.statistics[0].view({-1, 1});
    const double scale = -1 / static_cast<double>(width);
    at::Tensor scratch;
    for_rows_in_cache(x, x_rows.size(0), width, [&](std::int64_t first, std::int64_t count) {
      const at::Tensor rows = x_rows.narrow(0, first, count).to(exact);
      const at::Tensor dy = dy_rows.narrow(0, first, count).to(exact);
      const at::Tensor r = rstd_rows.narrow(0, first, count);
      if (!scratch.defined() || scratch.size(0) != count) {
        scratch = at::empty({count, width}, weight.options());
      }
      at::mul_out(scratch, dy, rows);
      dweight.addmv_(scratch.t(), r.squeeze(1));  // each row of dy * x, times its rstd
      if (!needs_input) {
        return;
      }
      const at::Tensor dot = at::mv(scratch, weight).unsqueeze_(1);  // sum(g * x)
      const at::Tensor coefficient = r.pow(3).mul_(dot).mul_(scale);
      at::mul_out(scratch, dy, weight);
      scratch.mul_(r);
      at::Tensor out = dx.view({-1, width}).narrow(0, first, count);
      at::addcmul_out(out, scratch, rows, coefficient);
    });
    add_gradient(context, 0, dweight);
    return {dx};
  }
};

}  // namespace

const Kernel& layer_norm_kernel() {
  static const LayerNormKernel kernel;
  return kernel;
}

const Kernel& rms_norm_kernel() {
  static const RmsNormKernel kernel;
  return kernel;
}

}  // namespace shardwise
