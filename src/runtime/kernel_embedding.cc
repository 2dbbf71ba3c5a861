// embedding: tokens [b, s], table [v, h] -> [b, s, h]. A vocabulary shard leaves zero rows for
// tokens of other shards. position embedding: x [b, s, h] + table[position of each local token].
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tensor.h>

#include "runtime/kernel_parts.h"
#include "runtime/kernel_table.h"

namespace shardwise {

namespace {

// accumulator[rows[i]] += gradient[i]
void add_rows(const KernelContext& context, const at::Tensor& rows, const at::Tensor& gradient) {
  at::Tensor accumulator = context.parameter_gradients[0];
  if (!context.accumulate) {
    accumulator.zero_();
  }
  accumulator.index_add_(0, rows, gradient.to(accumulator.scalar_type()));
}

class EmbeddingKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor&) const override {
    const at::Tensor& tokens = inputs[0];
    const at::Tensor& table = context.parameters[0];
    const at::Tensor flat = tokens.reshape({-1});
    const std::vector<std::int64_t> shape{tokens.size(0), tokens.size(1), table.size(1)};
    if (!is_vocabulary_shard(context)) {
      return {table.index_select(0, flat).view(shape)};
    }
    const Shard shard = shard_of(context, flat);
    at::Tensor rows = table.index_select(0, shard.local.masked_fill(shard.is_outside, 0));
    return {rows.masked_fill_(shard.is_outside.unsqueeze(1), 0).view(shape)};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    const at::Tensor tokens = in.saved_inputs[0].reshape({-1});
    const at::Tensor gradient = as_rows(in.output_gradients[0], context.parameters[0].size(1));
    if (is_vocabulary_shard(context)) {
      const Shard shard = shard_of(context, tokens);
      const at::Tensor inside = at::nonzero(shard.is_outside.logical_not()).reshape({-1});
      add_rows(context, shard.local.index_select(0, inside), gradient.index_select(0, inside));
    } else {
      add_rows(context, tokens, gradient);
    }
    return std::vector<at::Tensor>(1);
  }

 private:
  struct Shard {
    at::Tensor local;       // row of the local table
    at::Tensor is_outside;  // not in this shard: `local` is out of range
  };

  static bool is_vocabulary_shard(const KernelContext& context) {
    const int v = axis_index(*context.op, "v");
    return std::find(context.assignment.begin(), context.assignment.end(), v) !=
           context.assignment.end();
  }

  static Shard shard_of(const KernelContext& context, const at::Tensor& tokens) {
    const int v = axis_index(*context.op, "v");
    const at::Tensor local = tokens - context.axis_offset(v);
    return {local, local.lt(0).logical_or_(local.ge(context.axis_real_size(v)))};
  }
};

class PositionEmbeddingKernel final : public WholeBackwardKernel {
 public:
  std::vector<at::Tensor> forward(const KernelContext& context,
                                  const std::vector<at::Tensor>& inputs,
                                  const at::Tensor& reuse) const override {
    const at::Tensor rows = rows_of(context.parameters[0], context.positions());
    if (reuse.defined() && reuse.sizes() == inputs[0].sizes()) {
      at::Tensor out = reuse;
      at::add_out(out, inputs[0], rows);
      return {out};
    }
    return {at::add(inputs[0], rows)};
  }

  std::vector<at::Tensor> backward(const KernelContext& context,
                                   const BackwardInputs& in,
                                   bool) const override {
    const at::Tensor& gradient = in.output_gradients[0];
    const std::vector<std::int64_t> positions = context.positions();
    const at::Tensor sum = at::sum(gradient, {0}, /*keepdim=*/false, accumulation_type(gradient));
    if (is_run(positions) && context.accumulate) {
      rows_of(context.parameter_gradients[0], positions).add_(sum);
    } else {
      add_rows(context, indices(positions, sum), sum);
    }
    return {gradient};
  }

 private:
  static bool is_run(const std::vector<std::int64_t>& positions) {
    return std::adjacent_find(
               positions.begin(), positions.end(), [](std::int64_t a, std::int64_t b) {
                 return b != a + 1;
               }) == positions.end();
  }

  static at::Tensor indices(const std::vector<std::int64_t>& positions, const at::Tensor& like) {
    return at::tensor(positions, at::TensorOptions(at::kLong)).to(like.device());
  }

  // Rows `positions` of [p, h]: a view if they are consecutive.
  static at::Tensor rows_of(const at::Tensor& table, const std::vector<std::int64_t>& positions) {
    if (is_run(positions)) {
      return table.narrow(0,
                          positions.empty() ? 0 : positions.front(),
                          static_cast<std::int64_t>(positions.size()));
    }
    return table.index_select(0, indices(positions, table));
  }
};

}  // namespace

const Kernel& embedding_kernel() {
  static const EmbeddingKernel kernel;
  return kernel;
}

const Kernel& position_embedding_kernel() {
  static const PositionEmbeddingKernel kernel;
  return kernel;
}

}  // namespace shardwise
