// Activation functions over plain fp32 arrays, for CPUs: written so that the compiler turns them
// into vector code, for the widest instruction set of the machine that runs them.
//
// Why not ATen's: on one core of a Xeon with AVX-512 its tanh GELU takes 2.1 ns for an element, the
// backward of a SiLU gate 2.7 ns, far more than reading and writing them. These take 0.45 and 0.55.
// Results are within 2e-6 relative or 1e-7 absolute of the exact value; NaN stays NaN. They depend
// on neither the position in the array nor its length (but may differ between machines with and
// without fused multiply-add).
#pragma once

#include <cstdint>

namespace shardwise {

// y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); y may be x.
void gelu_tanh(const float* x, float* y, std::int64_t count);
// dx = dy * its derivative; dx may be dy.
void gelu_tanh_backward(const float* dy, const float* x, float* dx, std::int64_t count);

// y = x / (1 + exp(-x)); y may be x.
void silu(const float* x, float* y, std::int64_t count);
void silu_backward(const float* dy, const float* x, float* dx, std::int64_t count);

// y = silu(gate) * up; y may be gate.
void silu_gate(const float* gate, const float* up, float* y, std::int64_t count);
void silu_gate_backward(const float* dy,
                        const float* gate,
                        const float* up,
                        float* dgate,
                        float* dup,
                        std::int64_t count);

}  // namespace shardwise
