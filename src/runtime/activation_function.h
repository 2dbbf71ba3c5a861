// The activation functions of kActivation, kGatedActivation and kExperts by name: "gelu" (erf),
// "gelu_tanh", "relu", "silu".
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace shardwise {

enum class ActivationFunction { kGelu, kGeluTanh, kRelu, kSilu };

// Throws InputError for an unknown name.
ActivationFunction activation_function(const std::string& name);

// out = f(x); out has x's shape and may be x itself.
void activate(ActivationFunction function, const at::Tensor& x, at::Tensor out);

// out = gradient * f'(x); out may be `gradient` itself.
void activate_backward(ActivationFunction function,
                       const at::Tensor& gradient,
                       const at::Tensor& x,
                       at::Tensor out);

// out = f(gate) * up; out may be `gate` itself.
void activate_gated(ActivationFunction function,
                    const at::Tensor& gate,
                    const at::Tensor& up,
                    const at::Tensor& out);

// The two gradients; neither may share storage with the operands. A run of elements at a time stays
// in cache.
void activate_gated_backward(ActivationFunction function,
                             const at::Tensor& gradient,
                             const at::Tensor& gate,
                             const at::Tensor& up,
                             const at::Tensor& dgate,
                             const at::Tensor& dup);

}  // namespace shardwise
