// cross entropy: logits [b, s, v], targets [b, s] -> loss_scale * sum of (log-sum-exp - target's
// logit), in fp32. A vocabulary shard sees only its columns: (maximum, sum of exponentials,
// target's logit) of all shards are gathered, one all-gather for each mesh axis that shards v, and
// combined. A run of rows at a time stays in cache. Padding columns count for nothing and get
// gradient zero.
#include <ATen/ops/amax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/log.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

// Rows of `numbers`: what a vocabulary shard knows about each token.
enum Row { kMaximum, kSum, kTargetLogit, kNumbers };

// This rank's part of the vocabulary.
struct Columns {
  std::int64_t offset;
  std::int64_t count;  // real ones
};

Columns columns_of(const KernelContext& context) {
  const int v = axis_index(*context.op, "v");
  return {context.axis_offset(v), context.axis_real_size(v)};
}

// Targets of this shard, as [rows, 1]: their column here, and whether there is one.
struct LocalTargets {
  at::Tensor column;  // 0 where it lies outside
  at::Tensor is_inside;

  LocalTargets(const at::Tensor& targets, const Columns& columns) {
    const at::Tensor local = targets.reshape({-1, 1}) - columns.offset;
    is_inside = local.ge(0).logical_and_(local.lt(columns.count));
    column = local.masked_fill(is_inside.logical_not(), 0);
  }
};

// [kNumbers, tokens]
at::Tensor shard_numbers(const at::Tensor& logits,
                         const LocalTargets& targets,
                         const Columns& columns) {
  const at::ScalarType exact = accumulation_type(logits);
  const at::Tensor rows = as_rows(logits, logits.size(2)).narrow(1, 0, columns.count);
  at::Tensor numbers =
      at::zeros({kNumbers, logits.size(0) * logits.size(1)}, logits.options().dtype(exact));
  if (columns.count == 0) {
    numbers[kMaximum].fill_(-std::numeric_limits<double>::infinity());
    return numbers;
  }
  const auto column_of = [&](Row row, std::int64_t first, std::int64_t count) {
    return numbers[row].narrow(0, first, count).unsqueeze(1);
  };
  at::Tensor scratch;
  for_rows_in_cache(
      logits, rows.size(0), columns.count, [&](std::int64_t first, std::int64_t count) {
        const at::Tensor part = rows.narrow(0, first, count).to(exact);
        at::Tensor maximum = column_of(kMaximum, first, count);
        at::Tensor sum = column_of(kSum, first, count);
        at::amax_out(maximum, part, {1}, /*keepdim=*/true);
        if (!scratch.defined() || scratch.size(0) != count) {
          scratch = at::empty({count, columns.count}, part.options());
        }
        at::sub_out(scratch, part, maximum);
        scratch.exp_();
        at::sum_out(sum, scratch, {1}, /*keepdim=*/true);
        column_of(kTargetLogit, first, count)
            .copy_(part.gather(1, targets.column.narrow(0, first, count))
                       .mul_(targets.is_inside.narrow(0, first, count)));
      });
  return numbers;
}

// One all-gather over the shards along a mesh axis.
at::Tensor combined(const at::Tensor& numbers, CommunicationGroup& group) {
  std::vector<std::int64_t> shape{group.size()};
  shape.insert(shape.end(), numbers.sizes().begin(), numbers.sizes().end());
  const at::Tensor all = at::empty(shape, numbers.options());
  group.all_gather(numbers.data_ptr(), all.data_ptr(), numbers.numel(), wire_type(numbers));
  at::Tensor result = at::empty_like(numbers);
  const at::Tensor maxima = all.select(1, kMaximum);
  result[kMaximum].copy_(maxima.amax(0));
  result[kSum].copy_(all.select(1, kSum).mul(at::exp(maxima - result[kMaximum])).sum(0));
  result[kTargetLogit].copy_(all.select(1, kTargetLogit).sum(0));
  return result;
}

// The loss is partial on every assigned mesh axis: of equal vocabulary shards the first one gives
// it.
bool gives_loss(const KernelContext& context) {
  const int v = axis_index(*context.op, "v");
  for (std::size_t m = 0; m < kMeshAxes; ++m) {
    if (context.assignment[m] == v && context.coordinates[m] != 0) {
      return false;
    }
  }
  return true;
}

class CrossEntropyKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    const at::Tensor& logits = inputs[0];
    const Columns columns = columns_of(context);
    at::Tensor numbers = shard_numbers(logits, LocalTargets(inputs[1], columns), columns);
    const int v = axis_index(*context.op, "v");
    for (std::size_t m = 0; m < kMeshAxes; ++m) {
      if (context.assignment[m] == v) {
        numbers = combined(numbers, *context.groups[m]);
      }
    }
    const at::Tensor log_sum_exp = numbers[kSum].log().add_(numbers[kMaximum]);
    at::Tensor loss = at::zeros({}, numbers.options());
    if (gives_loss(context)) {
      loss = at::sum(log_sum_exp - numbers[kTargetLogit]).mul_(context.loss_scale);
    }
    return {loss, log_sum_exp.view({logits.size(0), logits.size(1)})};
  }

  // d logits = loss_scale * (softmax - one at the target).
  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    const at::Tensor& logits = in.saved_inputs[0];
    const Columns columns = columns_of(context);
    const LocalTargets targets(in.saved_inputs[1], columns);
    const at::Tensor gradient = at::empty_like(logits);
    const std::int64_t padding = logits.size(2) - columns.count;
    gradient.narrow(2, columns.count, padding).zero_();
    const at::Tensor rows = as_rows(logits, logits.size(2)).narrow(1, 0, columns.count);
    const at::Tensor gradient_rows =
        gradient.view({rows.size(0), logits.size(2)}).narrow(1, 0, columns.count);
    if (columns.count == 0) {
      return {gradient, at::Tensor()};
    }
    const at::Tensor log_sum_exp = in.statistics[0].view({-1, 1});
    const at::Tensor at_target =
        targets.is_inside.to(log_sum_exp.scalar_type()).mul_(-context.loss_scale);
    at::Tensor scratch;
    for_rows_in_cache(
        logits, rows.size(0), columns.count, [&](std::int64_t first, std::int64_t count) {
          const at::Tensor out = gradient_rows.narrow(0, first, count);
          // Into the result itself where it has the exact type.
          if (out.scalar_type() == log_sum_exp.scalar_type()) {
            scratch = out;
          } else if (!scratch.defined() || scratch.size(0) != count) {
            scratch = at::empty({count, columns.count}, log_sum_exp.options());
          }
          at::sub_out(scratch, rows.narrow(0, first, count), log_sum_exp.narrow(0, first, count));
          scratch.exp_().mul_(context.loss_scale);
          scratch.scatter_add_(
              1, targets.column.narrow(0, first, count), at_target.narrow(0, first, count));
          if (!scratch.is_same(out)) {
            out.copy_(scratch);
          }
        });
    return {gradient, at::Tensor()};
  }
};

}  // namespace

const Kernel& cross_entropy_kernel() {
  static const CrossEntropyKernel kernel;
  return kernel;
}

}  // namespace shardwise
