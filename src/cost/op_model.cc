#include "cost/op_model.h"

#include <algorithm>
#include <cmath>

#include "graph/layer_body.h"

namespace shardwise {

namespace {

double as_double(std::int64_t value) { return static_cast<double>(value); }

// Results are computed in tiles; parts of tiles cost as much as whole ones.
constexpr double kTile = 64;

double filled(double extent) { return extent / (std::ceil(extent / kTile) * kTile); }

bool has_backward(Direction direction) { return direction != Direction::kForward; }

}  // namespace

OpModel::OpModel(const DeviceType& device,
                 const Execution& execution,
                 const ModelConstants& constants,
                 Precision precision)
    : device_(device),
      execution_(execution),
      c_(constants),
      precision_(precision),
      peak_((precision == Precision::kBFloat16 ? device.peak_bf16.count : device.peak_fp32.count) *
            device.matrix_share) {}

double OpModel::stream(double bytes) const {
  return bytes / (device_.memory_bandwidth.count * c_.stream);
}

double OpModel::sustained() const {
  return has_small_formats() ? c_.sustained_hopper : c_.sustained;
}

// At `peak`, which long sums reach.
double OpModel::product_at(double rows, double sum, double columns, double peak) const {
  if (rows * sum * columns == 0) {
    return 0;
  }
  // The start takes as long for every format, so a faster one needs a longer sum.
  const double start = c_.sum_start * std::max(1.0, peak / peak_);
  double share = sustained() * sum / (sum + start) * filled(rows) * filled(columns);
  if (std::fmod(sum, kTile) != 0) {
    share *= c_.odd_dimension;
  }
  return 2 * rows * sum * columns / (peak * share);
}

double OpModel::product(double rows, double sum, double columns, MatrixFormat format) const {
  const double plain = product_at(rows, sum, columns, peak_);
  const double small = device_.matrix_share * c_.small_format;
  switch (format) {
    case MatrixFormat::kCompute:
      break;
    case MatrixFormat::kFloat8:
    case MatrixFormat::kFloat8Blocks:
      return product_at(rows, sum, columns, device_.peak_fp8.count * small);
    case MatrixFormat::kFloat4Blocks:
      return c_.kept_half * plain +
             (1 - c_.kept_half) * product_at(rows, sum, columns, device_.peak_fp4.count * small);
  }
  return plain;
}

double OpModel::linear(double rows,
                       double in,
                       double out,
                       Direction direction,
                       MatrixFormat format,
                       double quantise_bytes) const {
  const double copied =
      format == MatrixFormat::kCompute ? 0 : stream(quantise_bytes * rows);  // a column
  double time = 0;
  if (direction == Direction::kForward) {
    time += product(rows, in, out, format) + copied * in;
  }
  if (direction == Direction::kBackwardInput || direction == Direction::kBackward) {
    time += c_.gradient_product * product(rows, out, in, format) + copied * out;
  }
  if (direction == Direction::kBackwardWeight || direction == Direction::kBackward) {
    time += c_.gradient_product * product(in, rows, out, format);
  }
  return time;
}

// `causal_work`: arithmetic of forward, masked pairs left out. Kernels without flash compute all
// pairs.
double OpModel::attention(const OpKey& key, double causal_work, Direction direction) const {
  const std::vector<std::int64_t>& n = key.sizes;
  double key_width = as_double(n.back());
  double value_width = key_width;
  double pairs = 1;  // heads * queries * keys
  if (key.kind == OpKind::kLatentAttention) {
    pairs = as_double(n[0]) * as_double(n[1]) * as_double(n[2]);
    key_width = as_double(n[3]);
  } else if (is_sequence_attention(key.kind)) {
    pairs = as_double(n[0]) * as_double(n[1]) * as_double(n[2]) * as_double(n[3]);
  } else {
    pairs = causal_work / (4 * key_width);
  }
  const double work_of_pair = 2 * (key_width + value_width);
  const double rate = peak_ * sustained();
  using Kernel = AttentionKernel;
  if (execution_.attention == Kernel::kStored || execution_.attention == Kernel::kRecomputed) {
    const double narrow = key_width / (key_width + c_.sum_start / 2);
    const double products = pairs * work_of_pair / (rate * narrow);
    const double forward = products + stream(c_.score_forward * pairs);
    const double again = execution_.attention == Kernel::kRecomputed ? forward : 0;
    return has_backward(direction) ? 2 * products + stream(c_.score_backward * pairs) + again
                                   : forward;
  }
  const double share = execution_.attention == Kernel::kTuned ? c_.flash_tuned
                       : has_small_formats()                  ? c_.flash * c_.flash_hopper
                                                              : c_.flash;
  const double misfit = std::fmod(key_width, 8) != 0 ? 3 : 1;
  const double forward = misfit * causal_work / (rate * share);
  // The softmax's exponentials, again in backward, hide behind products only in part.
  const double exponentials = causal_work / work_of_pair;
  const double softmax =
      device_.exponentials > 0 ? c_.softmax * exponentials / device_.exponentials : 0;
  return has_backward(direction) ? 2.5 * forward / c_.flash_backward + softmax : forward + softmax;
}

// Sizes: routed pairs, experts of this rank, width, hidden. One product for each expert; loads are
// known only at run time.
double OpModel::experts(const OpKey& key, Direction direction) const {
  const double rows = as_double(key.sizes[0]);
  const double width = as_double(key.sizes[2]);
  const double hidden = as_double(key.sizes[3]);
  const MatrixFormat format = execution_.format;
  const bool is_fused = execution_.fuses_experts;
  const double copied = is_fused ? 0 : c_.quantise_bytes;
  const double grouped = is_fused ? 1 : c_.grouped;
  double time = stream(c_.permute_bytes / 2 * rows * hidden);
  // While software matures, more of a layer's launches are fused and its waits captured.
  const double host =
      is_fused ? 0 : c_.expert_layer * std::exp(-c_.maturing * (execution_.year - 2025.5));
  if (!has_backward(direction)) {
    time += (linear(rows, hidden, 2 * width, Direction::kForward, format, copied) +
             linear(rows, width, hidden, Direction::kForward, format, copied)) /
            grouped;
    return std::max(time, host / 3);
  }
  double products = linear(rows, hidden, 2 * width, Direction::kBackwardInput, format, copied) +
                    linear(rows, width, hidden, Direction::kBackwardInput, format, copied);
  if (execution_.repeats_expert_input) {
    products += product(rows, hidden, 2 * width, format);
  }
  // Weight gradients sum over the rows of one expert only, and are added to those of earlier
  // micro-batches in memory.
  const double count = std::max(1.0, as_double(key.sizes[1]));
  const double rows_of_expert = std::ceil(std::max(1.0, rows / count) / kTile) * kTile;
  const auto weights = [&](double in, double out) {
    return count *
           std::max(c_.gradient_product * product(in, rows_of_expert, out, format) / grouped,
                    stream(2.0 * execution_.gradient_bytes * in * out));
  };
  time += products / grouped + weights(hidden, 2 * width) + weights(width, hidden);
  return std::max(time, host * 2 / 3);
}

// As implicit matrix products (Chetlur et al., cuDNN, 2014, section 3): rows are places, sums run
// over input channels and the kernel.
double OpModel::convolution(const OpKey& key, Direction direction) const {
  const std::vector<std::int64_t>& n = key.sizes;
  const bool is_patch = key.kind == OpKind::kPatchEmbedding;
  const double rows = as_double(n[0]);
  const double in = as_double(is_patch ? n[1] : n[1] * n[3]);
  const double out = as_double(n[2]);
  return linear(rows, in, out, direction, MatrixFormat::kCompute, 0);
}

double OpModel::elementwise(const OpKey& key, double traffic) const {
  double bytes = traffic;
  const double half = precision_ == Precision::kBFloat16 ? 1 : 2;
  if (key.kind == OpKind::kCrossEntropy) {
    // Logits in the compute type, softmax in fp32: both copies are written and read.
    bytes = as_double(key.sizes[0]) * as_double(key.sizes[1]) * 8 * half;
  } else if (key.kind == OpKind::kAdd && execution_.dropout) {
    bytes += 5 * half * as_double(key.sizes[0]);  // result and mask, again in backward
  }
  const double factor = execution_.elementwise == Elementwise::kEager ? c_.eager : c_.elementwise;
  return factor * stream(bytes);
}

Seconds OpModel::time(const Op& op,
                      std::span<const std::int64_t> sizes,
                      Direction direction) const {
  const OpDefinition& definition = definition_of(op.kind);
  const OpKey key = op_key(op, sizes, precision_);
  const double traffic = as_double(
      definition.traffic(op, sizes, direction, element_bytes(ElementType::kCompute, precision_))
          .count);
  double time = 0;
  switch (op.kind) {
    case OpKind::kLinear: {
      const bool is_head = axis_index(op, "v") >= 0;
      time = std::max(stream(traffic),
                      linear(as_double(key.sizes[0]),
                             as_double(key.sizes[1]),
                             as_double(key.sizes[2]),
                             direction,
                             is_head ? MatrixFormat::kCompute : execution_.format,
                             c_.quantise_bytes));
      break;
    }
    case OpKind::kAttention:
    case OpKind::kRelativeAttention:
    case OpKind::kLatentAttention:
    case OpKind::kWindowAttention:
      time = std::max(
          stream(traffic),
          attention(key, definition.work(op, sizes, Direction::kForward).count, direction));
      break;
    case OpKind::kExperts:
      time = std::max(stream(traffic), experts(key, direction));
      break;
    case OpKind::kPatchEmbedding:
    case OpKind::kConv2d:
      time = std::max(stream(traffic), convolution(key, direction));
      break;
    case OpKind::kStack:
    case OpKind::kUnstack:
      return Seconds(0);  // views: no kernel is launched
    default:
      time = std::max(elementwise(key, traffic),
                      definition.work(op, sizes, direction).count / (peak_ * sustained()));
      break;
  }
  const double kernels = direction == Direction::kBackward ? 2 : 1;
  return Seconds(std::max(time, kernels * c_.launch));
}

}  // namespace shardwise
