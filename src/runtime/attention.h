// Exact attention of some queries of a sequence to all its keys, in memory linear in the sequence:
// which pieces it falls into, and their sum.
//
// Queries are rows of any positions (a context-parallel rank holds two chunks far apart), keys are
// in natural order. Consecutive positions form a run. A run that starts at position p attends the
// keys before p without a mask and its own keys [p, p + length) with a causal one; the two results
// are merged by their log-sum-exp. A sliding window is cut into blocks of queries, each with an
// explicit mask over the keys that any of them sees.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace shardwise {

struct AttentionRule {
  bool causal = true;
  std::int64_t window = 0;  // 0: none; else keys with query - key < window
  double scale = 1;
};

// Query rows [row, row + rows) attend keys [key, key + keys).
struct AttentionPiece {
  enum class Mask { kNone, kCausal, kWindow };
  std::int64_t row = 0;
  std::int64_t rows = 0;
  std::int64_t key = 0;
  std::int64_t keys = 0;
  Mask mask = Mask::kNone;    // kCausal: rows == keys, row i sees keys up to i
  std::int64_t position = 0;  // of the first row (kWindow)

  bool operator==(const AttentionPiece&) const = default;
};

// Pieces that cover every (query, key) pair the rule allows exactly once; pieces of the same rows
// are neighbours. `positions`: of the query rows. Requires 0 <= position < keys.
std::vector<AttentionPiece> attention_pieces(const std::vector<std::int64_t>& positions,
                                             std::int64_t keys,
                                             const AttentionRule& rule);

struct AttentionResult {
  at::Tensor output;       // [b, s, n, r, d]
  at::Tensor log_sum_exp;  // [b, n, r, s], fp32 (double for double)
};

// q [b, s, n, r, d], k and v [b, t, n, d], r query heads for each key head; all contiguous. Sizes
// may be zero.
AttentionResult attention_forward(const at::Tensor& q,
                                  const at::Tensor& k,
                                  const at::Tensor& v,
                                  const std::vector<std::int64_t>& positions,
                                  const AttentionRule& rule);

struct AttentionGradients {
  at::Tensor q, k, v;
};
AttentionGradients attention_backward(const at::Tensor& output_gradient,
                                      const at::Tensor& q,
                                      const at::Tensor& k,
                                      const at::Tensor& v,
                                      const AttentionResult& result,
                                      const std::vector<std::int64_t>& positions,
                                      const AttentionRule& rule);

}  // namespace shardwise
