// Tokens of a training run for the executor: each rank reads its own part of each micro-batch.
#pragma once

#include <cstdint>
#include <vector>

#include "files/sample_order.h"
#include "files/token_source.h"
#include "graph/plan.h"
#include "runtime/executor.h"

namespace shardwise {

// Sequence i of micro-batch j is position j * (sequences of a micro-batch) + i of the step's batch,
// however many micro-batches the plan has.
class TokenBatches : public BatchSource {
 public:
  at::Tensor load(BufferRole role, int microbatch, const Box& box) override;

 protected:
  // `source` outlives this.
  TokenBatches(const TokenSource& source, const Plan& plan);

 private:
  // First input token of a position of the batch.
  virtual std::int64_t first_token(std::int64_t position) const = 0;

  const TokenSource& source_;
  std::int64_t microbatch_;
  std::vector<std::int64_t> order_;  // position in the sequence of each stored token
};

// Batches in the order of training: set_step before each step.
class TrainingBatches final : public TokenBatches {
 public:
  TrainingBatches(const TokenSource& source, const SampleOrder& order, const Plan& plan);
  void set_step(std::int64_t step) { step_ = step; }  // from 1

 private:
  std::int64_t first_token(std::int64_t position) const override;

  const SampleOrder& order_;
  std::int64_t step_ = 1;
};

// Windows in the order of the data, from the beginning again after the last.
class EvaluationBatches final : public TokenBatches {
 public:
  EvaluationBatches(const TokenSource& source, const TokenRange& range, const Plan& plan);
  std::int64_t num_batches() const;  // whole ones, at least 1
  void set_batch(std::int64_t batch) { batch_ = batch; }

 private:
  std::int64_t first_token(std::int64_t position) const override;

  TokenRange range_;
  std::int64_t sequence_;
  std::int64_t batch_size_;
  std::int64_t batch_ = 0;
};

}  // namespace shardwise
