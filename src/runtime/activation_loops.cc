// Every loop is compiled for three instruction sets; the first call of each picks one.
// CMakeLists.txt gives this file -O3 without errno and traps, which vectorisation needs.
#include "runtime/activation_loops.h"

#include <bit>
#include <cmath>

namespace shardwise {

namespace {

#define SHARDWISE_INLINE inline __attribute__((always_inline))

// e^x as 2^n e^r, |r| <= ln 2 / 2, e^r by a polynomial (Cephes, expf). x is held within +-60:
// beyond it a sigmoid is 0 or 1 for every purpose here, and nothing becomes a denormal number,
// which would cost a hundred times as much (also in lanes whose result is not used).
SHARDWISE_INLINE float exponential(float x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;  // 2^n ln 2 is exact in two parts
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  x = x < -60.0f ? -60.0f : x;
  x = x > 60.0f ? 60.0f : x;
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // The low bits of `shifted` are n: moved to the exponent they multiply by 2^n.
  const auto power = (std::bit_cast<std::uint32_t>(shifted) + 127u) << 23;
  return p * std::bit_cast<float>(power);
}

SHARDWISE_INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

constexpr float kTwiceRoot = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float kCubic = 0.044715f;

// (1 + tanh u) / 2 = sigmoid(2 u).
SHARDWISE_INLINE float gelu_tanh_of(float x) {
  return x * sigmoid(kTwiceRoot * (x + kCubic * x * x * x));
}

SHARDWISE_INLINE float gelu_tanh_slope(float x) {
  const float s = sigmoid(kTwiceRoot * (x + kCubic * x * x * x));
  return s + x * s * (1.0f - s) * (kTwiceRoot * (1.0f + 3.0f * kCubic * x * x));
}

SHARDWISE_INLINE float silu_slope(float x, float s) { return s * (1.0f + x * (1.0f - s)); }

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SHARDWISE_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#define SHARDWISE_AVX2 __attribute__((target("avx2,fma")))

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// Defines name##_loop: a pointer to the fastest of three versions of the same loop.
#define SHARDWISE_VERSIONS(name, parameters, statement)                     \
  SHARDWISE_AVX512 void name##_avx512 parameters {                          \
    _Pragma("GCC ivdep") for (std::int64_t i = 0; i < count; ++i) statement \
  }                                                                         \
  SHARDWISE_AVX2 void name##_avx2 parameters {                              \
    _Pragma("GCC ivdep") for (std::int64_t i = 0; i < count; ++i) statement \
  }                                                                         \
  void name##_plain parameters {                                            \
    _Pragma("GCC ivdep") for (std::int64_t i = 0; i < count; ++i) statement \
  }                                                                         \
  auto name##_loop() {                                                      \
    static const auto chosen = has_avx512() ? name##_avx512                 \
                               : has_avx2() ? name##_avx2                   \
                                            : name##_plain;                 \
    return chosen;                                                          \
  }
#else
#define SHARDWISE_VERSIONS(name, parameters, statement)           \
  void name##_plain parameters {                                  \
    for (std::int64_t i = 0; i < count; ++i)                      \
      statement /* NOLINT(bugprone-macro-parentheses): a block */ \
  }                                                               \
  auto name##_loop() { return name##_plain; }
#endif

SHARDWISE_VERSIONS(gelu_tanh, (const float* x, float* y, std::int64_t count), {
  y[i] = gelu_tanh_of(x[i]);
})

SHARDWISE_VERSIONS(gelu_tanh_backward,
                   (const float* dy, const float* x, float* dx, std::int64_t count),
                   { dx[i] = dy[i] * gelu_tanh_slope(x[i]); })

SHARDWISE_VERSIONS(silu, (const float* x, float* y, std::int64_t count), {
  y[i] = x[i] * sigmoid(x[i]);
})

SHARDWISE_VERSIONS(silu_backward,
                   (const float* dy, const float* x, float* dx, std::int64_t count),
                   { dx[i] = dy[i] * silu_slope(x[i], sigmoid(x[i])); })

SHARDWISE_VERSIONS(silu_gate, (const float* gate, const float* up, float* y, std::int64_t count), {
  y[i] = gate[i] * sigmoid(gate[i]) * up[i];
})

SHARDWISE_VERSIONS(silu_gate_backward,
                   (const float* dy,
                    const float* gate,
                    const float* up,
                    float* dgate,
                    float* dup,
                    std::int64_t count),
                   {
                     const float s = sigmoid(gate[i]);
                     const float d = dy[i];
                     dgate[i] = d * up[i] * silu_slope(gate[i], s);
                     dup[i] = d * gate[i] * s;
                   })

}  // namespace

void gelu_tanh(const float* x, float* y, std::int64_t count) { gelu_tanh_loop()(x, y, count); }

void gelu_tanh_backward(const float* dy, const float* x, float* dx, std::int64_t count) {
  gelu_tanh_backward_loop()(dy, x, dx, count);
}

void silu(const float* x, float* y, std::int64_t count) { silu_loop()(x, y, count); }

void silu_backward(const float* dy, const float* x, float* dx, std::int64_t count) {
  silu_backward_loop()(dy, x, dx, count);
}

void silu_gate(const float* gate, const float* up, float* y, std::int64_t count) {
  silu_gate_loop()(gate, up, y, count);
}

void silu_gate_backward(const float* dy,
                        const float* gate,
                        const float* up,
                        float* dgate,
                        float* dup,
                        std::int64_t count) {
  silu_gate_backward_loop()(dy, gate, up, dgate, dup, count);
}

}  // namespace shardwise
