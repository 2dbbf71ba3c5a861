#include "cost/uniform_memory.h"

#include <algorithm>
#include <cmath>

namespace shardwise {

namespace {

double as_double(std::int64_t value) { return static_cast<double>(value); }

// Allocator's waste, as a share of what is allocated and freed: rounding and fragments.
constexpr double kFragments = 0.01;

class MemoryModel {
 public:
  MemoryModel(const UniformRun& run, const Cluster& cluster)
      : run_(run),
        shape_(run.shape),
        device_(cluster.types.front()),
        tokens_(as_double(run.micro * run.sequence) / run.context),
        norm_tokens_(tokens_ / (run.software.sequence_parallel ? run.tensor : 1)),
        sparse_share_(shape_.experts == 0
                          ? 0
                          : 1 - as_double(shape_.dense_layers) / as_double(shape_.layers)) {}

  // Stages differ: the ends hold embedding and head, early ones more micro-batches.
  UniformMemory estimate() const {
    UniformMemory fullest = stage(0);
    for (int i = 1; i < run_.pipeline; ++i) {
      const UniformMemory other = stage(i);
      fullest = other.total() > fullest.total() ? other : fullest;
    }
    return fullest;
  }

 private:
  UniformMemory stage(int index) const;
  double states(int index) const;
  double in_flight(int index) const;
  double layers_of(int index) const;
  // Bytes kept for backward by one layer for one micro-batch (Korthikanti et al., 2022, section
  // 4.1, written out by tensor, so that grouped heads, gates and experts are counted).
  double layer_activations(Recompute recompute) const;

  const UniformRun& run_;
  const DecoderShape& shape_;
  const DeviceType& device_;
  const double tokens_;
  const double norm_tokens_;
  const double sparse_share_;
};

double MemoryModel::layer_activations(Recompute recompute) const {
  const auto hidden = as_double(shape_.hidden);
  const double t = run_.tensor;
  if (recompute == Recompute::kFull) {
    return 2 * norm_tokens_ * hidden;
  }
  const bool keeps_all = recompute == Recompute::kNone;
  const bool repeats_cheap = !keeps_all && run_.software.flash;
  const double masks = run_.software.dropout ? 2 : 0;
  // Inputs of both norms, and their outputs.
  double bytes = norm_tokens_ * hidden * ((repeats_cheap ? 4 : 8) + masks);
  const double key_width = as_double(shape_.head_width + shape_.latent.rotary_width);
  const auto value_width =
      as_double(shape_.latent.exists() ? shape_.latent.value_width : shape_.head_width);
  bytes += 2 * tokens_ / t *
           (as_double(shape_.heads + shape_.key_value_heads) * key_width +
            as_double(shape_.heads + shape_.key_value_heads) * value_width);
  if (!run_.software.flash && keeps_all) {  // softmax input and output, dropout mask
    bytes += (4 + (run_.software.dropout ? 1 : 0)) * tokens_ * as_double(run_.sequence) *
             as_double(shape_.heads) / t;
  }
  // Inputs of the activation in two bytes; what goes into a product in the product's format.
  const double element = run_.software.format == MatrixFormat::kHalf ? 2 : 1;
  const double mlp = 2 * (shape_.gated ? 2 : 1) + (repeats_cheap ? 0 : element);
  const double dense = mlp * tokens_ * as_double(shape_.feed_forward) / t;
  const double routed = norm_tokens_ * as_double(shape_.experts_per_token);
  const double sparse = routed * (element * hidden + mlp * as_double(shape_.expert_width)) +
                        mlp * tokens_ * as_double(shape_.shared_width) / t;
  return bytes + (1 - sparse_share_) * dense + sparse_share_ * sparse;
}

// As UniformRun's time counts them: ends may hold a layer less.
double MemoryModel::layers_of(int index) const {
  const bool is_end = index == 0 || index == run_.pipeline - 1;
  return stage_layers(run_, is_end);
}

double MemoryModel::states(int index) const {
  const bool is_first = index == 0;
  const bool is_last = index == run_.pipeline - 1;
  const double tables =
      (is_first ? 1 : 0) + (is_last ? 1 : 0) - (is_first && is_last && shape_.tied ? 1 : 0);
  const double shared =
      as_double(shape_.hidden) * as_double(shape_.shared_width) * (shape_.gated ? 3 : 2);
  const double whole = (layers_of(index) * (shape_.attention_parameters() +
                                            (1 - sparse_share_) * shape_.dense_parameters() +
                                            sparse_share_ * shared) +
                        tables * shape_.vocabulary_parameters()) /
                       run_.tensor;
  const double routed = sparse_share_ * layers_of(index) * as_double(shape_.experts) *
                        shape_.expert_parameters() / run_.expert;
  const double ranks = as_double(run_.data) * run_.context;
  const double routed_ranks = std::max(1.0, ranks * run_.tensor / run_.expert);
  const auto bytes = [&](double over) {
    const double weights = 2 / (run_.zero >= 3 ? over : 1);
    const double gradients = run_.software.gradient_bytes / (run_.zero >= 2 ? over : 1);
    const double optimizer = 12 / (run_.zero >= 1 ? over : 1);
    return weights + gradients + optimizer;
  };
  return whole * bytes(ranks) + routed * bytes(routed_ranks);
}

double MemoryModel::in_flight(int index) const {
  const double p = run_.pipeline;
  const double m = as_double(run_.microbatches);
  const double v = run_.chunks;
  switch (run_.schedule) {
    case RunSchedule::kGpipe:
      return m;
    case RunSchedule::kInterleaved:
      return std::min(m, (2 * (p - index - 1) + (v - 1) * p + 1) / v);
    case RunSchedule::kZeroBubble2:  // every stage up to the limit (Qi et al., 2024, section 3)
      return std::min(m, 2 * p - 1);
    case RunSchedule::kZeroBubble1:
      return std::min(m, p);
    case RunSchedule::k1F1B:
      break;
  }
  return std::min(m, p - index);
}

UniformMemory MemoryModel::stage(int index) const {
  UniformMemory memory;
  memory.states = states(index);
  memory.activations =
      layers_of(index) * in_flight(index) * layer_activations(run_.recompute) * (1 + kFragments);
  if (index == run_.pipeline - 1) {  // half and single precision, gradient in place
    memory.logits = 6 * tokens_ * as_double(shape_.vocabulary) / run_.tensor;
  }
  if (run_.recompute == Recompute::kFull) {
    memory.working = layer_activations(Recompute::kNone);
  }
  if (run_.zero >= 3) {  // two layers' weights: one in use, one on its way
    memory.working +=
        2 * 2 * (shape_.attention_parameters() + shape_.dense_parameters()) / run_.tensor;
  }
  memory.reserve = as_double(device_.reserve.count);
  return memory;
}

}  // namespace

UniformMemory estimate_uniform_memory(const UniformRun& run, const Cluster& cluster) {
  return MemoryModel(run, cluster).estimate();
}

bool state_fits(const UniformRun& run, const Cluster& cluster) {
  const UniformMemory memory = estimate_uniform_memory(run, cluster);
  return memory.states + memory.reserve <= as_double(cluster.types.front().memory.count);
}

Recompute least_recompute_that_fits(const UniformRun& run, const Cluster& cluster) {
  const auto limit = as_double(cluster.types.front().memory.count);
  UniformRun changed = run;
  for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective}) {
    changed.recompute = recompute;
    if (recompute >= run.recompute && estimate_uniform_memory(changed, cluster).total() <= limit) {
      return recompute;
    }
  }
  return Recompute::kFull;
}

}  // namespace shardwise
