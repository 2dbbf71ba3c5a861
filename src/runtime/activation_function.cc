#include "runtime/activation_function.h"

#include <ATen/Parallel.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/threshold_backward.h>

#include <algorithm>
#include <initializer_list>

#include "core/errors.h"
#include "runtime/activation_loops.h"
#include "runtime/kernel_parts.h"

namespace shardwise {

namespace {

// Whether all of them are plain fp32 arrays, for activation_loops.h.
bool are_plain(std::initializer_list<at::Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
    return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
  });
}

// Calls body(first, count) on the parts of an array, on ATen's threads.
template <typename Body>
void in_parallel(std::int64_t count, const Body& body) {
  constexpr std::int64_t kGrain = std::int64_t{32} * 1024;
  at::parallel_for(
      0, count, kGrain, [&](std::int64_t begin, std::int64_t end) { body(begin, end - begin); });
}

}  // namespace

ActivationFunction activation_function(const std::string& name) {
  if (name == "gelu") {
    return ActivationFunction::kGelu;
  }
  if (name == "gelu_tanh") {
    return ActivationFunction::kGeluTanh;
  }
  if (name == "relu") {
    return ActivationFunction::kRelu;
  }
  if (name == "silu") {
    return ActivationFunction::kSilu;
  }
  throw InputError("activation",
                   "expected gelu, gelu_tanh, relu or silu, got \"" + name +
                       "\"; the runtime cannot train with it");
}

void activate(ActivationFunction function, const at::Tensor& x, at::Tensor out) {
  switch (function) {
    case ActivationFunction::kGelu:
      at::gelu_out(out, x, "none");
      return;
    case ActivationFunction::kGeluTanh:
      if (are_plain({x, out})) {
        const float* const from = x.const_data_ptr<float>();
        float* const to = out.mutable_data_ptr<float>();
        in_parallel(x.numel(), [=](std::int64_t first, std::int64_t count) {
          gelu_tanh(from + first, to + first, count);
        });
        return;
      }
      at::gelu_out(out, x, "tanh");
      return;
    case ActivationFunction::kRelu:
      at::clamp_min_out(out, x, 0);
      return;
    case ActivationFunction::kSilu:
      if (are_plain({x, out})) {
        const float* const from = x.const_data_ptr<float>();
        float* const to = out.mutable_data_ptr<float>();
        in_parallel(x.numel(), [=](std::int64_t first, std::int64_t count) {
          silu(from + first, to + first, count);
        });
        return;
      }
      at::silu_out(out, x);
      return;
  }
}

void activate_backward(ActivationFunction function,
                       const at::Tensor& gradient,
                       const at::Tensor& x,
                       at::Tensor out) {
  switch (function) {
    case ActivationFunction::kGelu:
      at::gelu_backward_out(out, gradient, x, "none");
      return;
    case ActivationFunction::kGeluTanh:
      if (are_plain({gradient, x, out})) {
        const float* const dy = gradient.const_data_ptr<float>();
        const float* const from = x.const_data_ptr<float>();
        float* const to = out.mutable_data_ptr<float>();
        in_parallel(x.numel(), [=](std::int64_t first, std::int64_t count) {
          gelu_tanh_backward(dy + first, from + first, to + first, count);
        });
        return;
      }
      at::gelu_backward_out(out, gradient, x, "tanh");
      return;
    case ActivationFunction::kRelu:
      at::threshold_backward_out(out, gradient, x, 0);
      return;
    case ActivationFunction::kSilu:
      if (are_plain({gradient, x, out})) {
        const float* const dy = gradient.const_data_ptr<float>();
        const float* const from = x.const_data_ptr<float>();
        float* const to = out.mutable_data_ptr<float>();
        in_parallel(x.numel(), [=](std::int64_t first, std::int64_t count) {
          silu_backward(dy + first, from + first, to + first, count);
        });
        return;
      }
      at::silu_backward_out(out, gradient, x);
      return;
  }
}

void activate_gated(ActivationFunction function,
                    const at::Tensor& gate,
                    const at::Tensor& up,
                    const at::Tensor& out) {
  if (function == ActivationFunction::kSilu && are_plain({gate, up, out})) {
    const float* const gates = gate.const_data_ptr<float>();
    const float* const ups = up.const_data_ptr<float>();
    float* const to = out.mutable_data_ptr<float>();
    in_parallel(out.numel(), [=](std::int64_t first, std::int64_t count) {
      silu_gate(gates + first, ups + first, to + first, count);
    });
    return;
  }
  const at::Tensor flat_gate = gate.view({-1});
  const at::Tensor flat_up = up.view({-1});
  const at::Tensor flat_out = out.view({-1});
  for_rows_in_cache(out, out.numel(), 1, [&](std::int64_t first, std::int64_t count) {
    at::Tensor part = flat_out.narrow(0, first, count);
    activate(function, flat_gate.narrow(0, first, count), part);
    part.mul_(flat_up.narrow(0, first, count));
  });
}

void activate_gated_backward(ActivationFunction function,
                             const at::Tensor& gradient,
                             const at::Tensor& gate,
                             const at::Tensor& up,
                             const at::Tensor& dgate,
                             const at::Tensor& dup) {
  if (function == ActivationFunction::kSilu && are_plain({gradient, gate, up, dgate, dup})) {
    const float* const dy = gradient.const_data_ptr<float>();
    const float* const gates = gate.const_data_ptr<float>();
    const float* const ups = up.const_data_ptr<float>();
    float* const to_gate = dgate.mutable_data_ptr<float>();
    float* const to_up = dup.mutable_data_ptr<float>();
    in_parallel(gate.numel(), [=](std::int64_t first, std::int64_t count) {
      silu_gate_backward(
          dy + first, gates + first, ups + first, to_gate + first, to_up + first, count);
    });
    return;
  }
  const at::Tensor flat_gradient = gradient.view({-1});
  const at::Tensor flat_gate = gate.view({-1});
  const at::Tensor flat_up = up.view({-1});
  const at::Tensor flat_dgate = dgate.view({-1});
  const at::Tensor flat_dup = dup.view({-1});
  for_rows_in_cache(gate, gate.numel(), 1, [&](std::int64_t first, std::int64_t count) {
    const at::Tensor part = flat_gradient.narrow(0, first, count);
    const at::Tensor gate_part = flat_gate.narrow(0, first, count);
    at::Tensor dgate_part = flat_dgate.narrow(0, first, count);
    at::Tensor dup_part = flat_dup.narrow(0, first, count);
    at::mul_out(dgate_part, part, flat_up.narrow(0, first, count));
    activate_backward(function, dgate_part, gate_part, dgate_part);
    activate(function, gate_part, dup_part);
    dup_part.mul_(part);
  });
}

}  // namespace shardwise
