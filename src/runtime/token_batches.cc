#include "runtime/token_batches.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <span>

#include "core/errors.h"
#include "runtime/kernel.h"

namespace shardwise {

TokenBatches::TokenBatches(const TokenSource& source, const Plan& plan)
    : source_(source),
      microbatch_(plan.microbatch()),
      order_(token_order(plan.sequence, plan.context_chunks)) {}

at::Tensor TokenBatches::load(BufferRole role, int microbatch, const Box& box) {
  const std::int64_t rows = box.end[0] - box.begin[0];
  const std::int64_t columns = box.end[1] - box.begin[1];
  at::Tensor tokens = at::empty({rows, columns}, at::kLong);
  const std::int64_t shift = role == BufferRole::kTargets ? 1 : 0;
  std::int64_t* out = tokens.mutable_data_ptr<std::int64_t>();
  for (std::int64_t row = box.begin[0]; row < box.end[0]; ++row) {
    const std::int64_t first = first_token(microbatch * microbatch_ + row) + shift;
    // One read for each run of neighbouring positions.
    for (std::int64_t begin = box.begin[1]; begin < box.end[1];) {
      std::int64_t end = begin + 1;
      const auto at = [&](std::int64_t i) { return order_[static_cast<std::size_t>(i)]; };
      while (end < box.end[1] && at(end) == at(end - 1) + 1) {
        ++end;
      }
      source_.read(first + at(begin), std::span(out, static_cast<std::size_t>(end - begin)));
      out += end - begin;
      begin = end;
    }
  }
  return tokens;
}

TrainingBatches::TrainingBatches(const TokenSource& source,
                                 const SampleOrder& order,
                                 const Plan& plan)
    : TokenBatches(source, plan), order_(order) {}

std::int64_t TrainingBatches::first_token(std::int64_t position) const {
  return order_.sample(step_ - 1, position).begin;
}

EvaluationBatches::EvaluationBatches(const TokenSource& source,
                                     const TokenRange& range,
                                     const Plan& plan)
    : TokenBatches(source, plan), range_(range), sequence_(plan.sequence), batch_size_(plan.batch) {
  SHARDWISE_CHECK(num_windows(range_, sequence_) > 0, "no window to evaluate on");
}

std::int64_t EvaluationBatches::num_batches() const {
  return std::max<std::int64_t>(1, num_windows(range_, sequence_) / batch_size_);
}

std::int64_t EvaluationBatches::first_token(std::int64_t position) const {
  const std::int64_t window = (batch_ * batch_size_ + position) % num_windows(range_, sequence_);
  return range_.begin + window * sequence_;
}

}  // namespace shardwise
