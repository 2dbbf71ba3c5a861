#include "runtime/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "core/errors.h"

namespace shardwise {

namespace {

using Mask = AttentionPiece::Mask;

// Queries of one windowed block: fewer waste less of the mask, more are faster for each.
std::int64_t window_block(std::int64_t window) { return std::clamp<std::int64_t>(window, 64, 512); }

void add_run(std::vector<AttentionPiece>& pieces,
             std::int64_t row,
             std::int64_t rows,
             std::int64_t position,
             std::int64_t keys,
             const AttentionRule& rule) {
  const std::int64_t end = position + rows;
  const bool is_windowed = rule.window > 0 && end > rule.window;
  if (!is_windowed) {
    if (!rule.causal) {
      pieces.push_back({row, rows, 0, keys, Mask::kNone, position});
      return;
    }
    if (position > 0) {
      pieces.push_back({row, rows, 0, position, Mask::kNone, position});
    }
    pieces.push_back({row, rows, position, rows, Mask::kCausal, position});
    return;
  }
  const std::int64_t block = window_block(rule.window);
  for (std::int64_t first = 0; first < rows; first += block) {
    const std::int64_t count = std::min(block, rows - first);
    const std::int64_t at = position + first;
    const std::int64_t key = std::max<std::int64_t>(at - rule.window + 1, 0);
    const std::int64_t key_end = rule.causal ? at + count : keys;
    pieces.push_back({row + first, count, key, key_end - key, Mask::kWindow, at});
  }
}

// [b, s, n, r, d] or [b, t, n, d] as [b, heads, s, d], a view.
at::Tensor as_heads(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.dim() == 5 ? tensor.flatten(2, 3) : tensor;
  return flat.transpose(1, 2);
}

// Additive mask [rows, keys] of a windowed piece.
at::Tensor window_mask(const AttentionPiece& piece,
                       const AttentionRule& rule,
                       const at::TensorOptions& options) {
  const at::TensorOptions index = at::TensorOptions(at::kLong).device(options.device());
  const at::Tensor query =
      at::arange(piece.position, piece.position + piece.rows, index).unsqueeze(1);
  const at::Tensor distance = query - at::arange(piece.key, piece.key + piece.keys, index);
  at::Tensor is_hidden = distance.ge(rule.window);
  if (rule.causal) {
    is_hidden.logical_or_(distance.lt(0));
  }
  return at::zeros(is_hidden.sizes(), options)
      .masked_fill_(is_hidden, -std::numeric_limits<double>::infinity());
}

// The operands of one piece, [b, heads, rows or keys, d]; the mask of the piece before is used
// again if it is the same.
struct PieceMask {
  AttentionPiece piece;
  at::Tensor mask;

  std::optional<at::Tensor> of(const AttentionPiece& next,
                               const AttentionRule& rule,
                               const at::TensorOptions& options) {
    if (next.mask != Mask::kWindow) {
      return std::nullopt;
    }
    const bool is_same = mask.defined() && next.rows == piece.rows && next.keys == piece.keys &&
                         next.position - next.key == piece.position - piece.key;
    if (!is_same) {
      mask = window_mask(next, rule, options);
      piece = next;
    }
    return mask;
  }
};

bool is_whole(const std::vector<AttentionPiece>& pieces, std::int64_t rows, std::int64_t keys) {
  return pieces.size() == 1 && pieces[0].rows == rows && pieces[0].keys == keys;
}

bool is_empty(const at::Tensor& q, const at::Tensor& k) { return q.numel() == 0 || k.numel() == 0; }

at::ScalarType statistic_type(const at::Tensor& q) {
  return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

std::vector<AttentionPiece> attention_pieces(const std::vector<std::int64_t>& positions,
                                             std::int64_t keys,
                                             const AttentionRule& rule) {
  std::vector<AttentionPiece> pieces;
  const auto count = static_cast<std::int64_t>(positions.size());
  if (!rule.causal && rule.window == 0) {
    if (count > 0) {
      pieces.push_back({0, count, 0, keys, Mask::kNone, positions.front()});
    }
    return pieces;
  }
  for (std::int64_t row = 0; row < count;) {
    const std::int64_t position = positions[static_cast<std::size_t>(row)];
    SHARDWISE_CHECK(position >= 0 && position < keys, "query position outside of the sequence");
    std::int64_t rows = 1;
    while (row + rows < count &&
           positions[static_cast<std::size_t>(row + rows)] == position + rows) {
      ++rows;
    }
    add_run(pieces, row, rows, position, keys, rule);
    row += rows;
  }
  return pieces;
}

AttentionResult attention_forward(const at::Tensor& q,
                                  const at::Tensor& k,
                                  const at::Tensor& v,
                                  const std::vector<std::int64_t>& positions,
                                  const AttentionRule& rule) {
  const std::int64_t rows = q.size(1);
  const std::int64_t keys = k.size(1);
  const std::vector<std::int64_t> statistic_shape{q.size(0), q.size(2), q.size(3), rows};
  const at::TensorOptions statistic_options = q.options().dtype(statistic_type(q));
  if (is_empty(q, k)) {  // ATen's kernel divides by these sizes
    return {at::zeros_like(q), at::zeros(statistic_shape, statistic_options)};
  }
  const at::Tensor query = as_heads(q);
  const at::Tensor key = as_heads(k);
  const at::Tensor value = as_heads(v);
  const std::vector<AttentionPiece> pieces = attention_pieces(positions, keys, rule);
  PieceMask masks;
  const auto attend = [&](const AttentionPiece& piece) {
    return at::_scaled_dot_product_flash_attention_for_cpu(query.narrow(2, piece.row, piece.rows),
                                                           key.narrow(2, piece.key, piece.keys),
                                                           value.narrow(2, piece.key, piece.keys),
                                                           /*dropout_p=*/0,
                                                           piece.mask == Mask::kCausal,
                                                           masks.of(piece, rule, q.options()),
                                                           rule.scale);
  };
  if (is_whole(pieces, rows, keys)) {
    const auto [output, log_sum_exp] = attend(pieces[0]);
    return {output.transpose(1, 2).contiguous().view(q.sizes()),
            log_sum_exp.contiguous().view(statistic_shape)};
  }
  const at::Tensor result = at::empty(q.sizes(), q.options());
  const at::Tensor output = as_heads(result);
  const at::Tensor statistic = at::empty(statistic_shape, statistic_options);
  const at::Tensor log_sum_exp = statistic.flatten(1, 2);  // [b, heads, s]
  std::int64_t done = 0;                                   // rows that some piece has written
  for (const AttentionPiece& piece : pieces) {
    const auto [part, part_sum] = attend(piece);
    const at::Tensor out = output.narrow(2, piece.row, piece.rows);
    const at::Tensor sum = log_sum_exp.narrow(2, piece.row, piece.rows);
    if (piece.row >= done) {
      out.copy_(part);
      sum.copy_(part_sum);
      done = piece.row + piece.rows;
      continue;
    }
    const at::Tensor both = at::logaddexp(sum, part_sum);
    out.mul_(at::exp(sum - both).unsqueeze(3))
        .addcmul_(part, at::exp(part_sum - both).unsqueeze(3));
    sum.copy_(both);
  }
  return {result, statistic};
}

// The softmax of a piece is exp(score - log_sum_exp of all pieces), so ATen's backward with the
// final output and log-sum-exp gives this piece's share of every gradient.
AttentionGradients attention_backward(const at::Tensor& output_gradient,
                                      const at::Tensor& q,
                                      const at::Tensor& k,
                                      const at::Tensor& v,
                                      const AttentionResult& result,
                                      const std::vector<std::int64_t>& positions,
                                      const AttentionRule& rule) {
  if (is_empty(q, k)) {
    return {at::zeros_like(q), at::zeros_like(k), at::zeros_like(v)};
  }
  const at::Tensor query = as_heads(q);
  const at::Tensor key = as_heads(k);
  const at::Tensor value = as_heads(v);
  const at::Tensor output = as_heads(result.output);
  const at::Tensor gradient = as_heads(output_gradient);
  const at::Tensor log_sum_exp = result.log_sum_exp.flatten(1, 2);
  const std::vector<AttentionPiece> pieces = attention_pieces(positions, k.size(1), rule);
  PieceMask masks;
  const auto differentiate = [&](const AttentionPiece& piece) {
    return at::_scaled_dot_product_flash_attention_for_cpu_backward(
        gradient.narrow(2, piece.row, piece.rows),
        query.narrow(2, piece.row, piece.rows),
        key.narrow(2, piece.key, piece.keys),
        value.narrow(2, piece.key, piece.keys),
        output.narrow(2, piece.row, piece.rows),
        log_sum_exp.narrow(2, piece.row, piece.rows),
        /*dropout_p=*/0,
        piece.mask == Mask::kCausal,
        masks.of(piece, rule, q.options()),
        rule.scale);
  };
  const auto natural = [](const at::Tensor& heads, const at::Tensor& like) {
    return heads.transpose(1, 2).contiguous().view(like.sizes());
  };
  if (is_whole(pieces, q.size(1), k.size(1))) {
    const auto [dq, dk, dv] = differentiate(pieces[0]);
    return {natural(dq, q), natural(dk, k), natural(dv, v)};
  }
  // Sums of several pieces in the accumulation type.
  const at::TensorOptions exact = q.options().dtype(statistic_type(q));
  const at::Tensor dq = at::zeros(q.sizes(), exact);
  const at::Tensor dk = at::zeros(k.sizes(), exact);
  const at::Tensor dv = at::zeros(v.sizes(), exact);
  for (const AttentionPiece& piece : pieces) {
    const auto [query_part, key_part, value_part] = differentiate(piece);
    as_heads(dq).narrow(2, piece.row, piece.rows).add_(query_part);
    as_heads(dk).narrow(2, piece.key, piece.keys).add_(key_part);
    as_heads(dv).narrow(2, piece.key, piece.keys).add_(value_part);
  }
  return {dq.to(q.scalar_type()), dk.to(q.scalar_type()), dv.to(q.scalar_type())};
}

}  // namespace shardwise
