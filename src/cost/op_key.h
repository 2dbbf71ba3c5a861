// What the time of an op's kernel depends on: equal keys, equal time. The rows of a measured table
// are found by it, and a profile measures each key once however many ops and shardings share it.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/op.h"
#include "graph/plan.h"

namespace shardwise {

// `sizes`, local, first the one that grows with the micro-batch (the other sizes and the rest of
// the key are the row's family, in which a table interpolates over the first):
//   embedding            b*s, v, h              position embedding  b*s, h
//   linear               b*s, in, out           layer, RMS norm     rows, width
//   attention            b*n, r, s, t, d        rotary              rows, head size
//   activation, gated    elements               add                 elements
//   cross entropy        b*s, v                 router              b*s, h, e, k
//   experts              routed pairs, e, f, h  (even routing; e = experts of this rank)
//   row gate             b*s, h                 relative attention  as attention
//   latent attention     b*n, s, t, d, w        window attention    b*n*s, d
//   patch embedding      b*s, c*k*l, h          class token, patch merge  b*s, width
//   pool                 b, s, h                global pool         b, c, y*x
//   conv2d               b*y*x, c, o, k*l       batch norm          b*y*x, c
//   max pool             b*c, y*x
struct OpKey {
  OpKind kind = OpKind::kLinear;
  // Attributes that change the kernel: "bias", "causal", "causal window 4096", "gelu_tanh",
  // "rotary 64", "stride 2"; else empty.
  std::string variant;
  std::vector<std::int64_t> sizes;
  Precision precision = Precision::kFloat32;

  auto operator<=>(const OpKey&) const = default;
};

// `sizes`: local sizes of op.axes (graph/layout.h, local_axis_sizes).
OpKey op_key(const Op& op, std::span<const std::int64_t> sizes, Precision precision);

// "linear bias [8192, 768, 3072] fp32", for messages.
std::string to_string(const OpKey& key);

}  // namespace shardwise
