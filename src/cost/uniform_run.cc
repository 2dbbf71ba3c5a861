// How it works: prices of one layer and of the head for one micro-batch (LayerModel), then of a
// stage, then the schedule, then what is paid once a step.
#include "cost/uniform_run.h"

#include <algorithm>
#include <cmath>

namespace shardwise {

namespace {

double as_double(std::int64_t value) { return static_cast<double>(value); }

// Forward and backward of the same thing, seconds.
struct Both {
  double forward = 0;
  double backward = 0;

  Both& operator+=(const Both& other) {
    forward += other.forward;
    backward += other.backward;
    return *this;
  }
  double sum() const { return forward + backward; }
};

// A group of ranks: how many, and how many of them on one node.
struct Group {
  double ranks = 1;
  double on_node = 1;
};

class RunModel {
 public:
  RunModel(const UniformRun& run, const Cluster& cluster, const ModelConstants& constants)
      : run_(run),
        shape_(run.shape),
        software_(run.software),
        c_(constants),
        device_(cluster.types.front()),
        node_size_(cluster.levels.front().size),
        node_rate_(cluster.levels.front().bandwidth.count * constants.node_share),
        network_rate_(cluster.levels.size() > 1
                          ? cluster.levels[1].bandwidth.count * constants.network_share
                          : node_rate_),
        nodes_(std::max(
            1.0, as_double(run.tensor) * run.context * run.pipeline * run.data / node_size_)),
        tokens_(as_double(run.micro * run.sequence) / run.context),
        norm_tokens_(tokens_ / (run.software.sequence_parallel ? run.tensor : 1)) {}

  UniformTime estimate() const;

 private:
  bool is_recent() const { return device_.peak_fp8.count > 0; }

  Group group(double ranks, double stride) const {
    return {ranks, std::clamp(std::floor(node_size_ / stride), 1.0, ranks)};
  }

  // --- one device -------------------------------------------------------------------------------
  double product_at(double rows, double sum, double columns, double peak) const;
  double product(double rows, double sum, double columns, MatrixFormat format) const;
  Both linear(double rows, double in, double out) const;
  Both linear(double rows, double in, double out, MatrixFormat format) const;
  Both attention() const;
  double stream(double bytes) const { return bytes / (device_.memory_bandwidth.count * c_.stream); }
  double elementwise_factor() const {
    return software_.elementwise == Elementwise::kEager ? c_.eager : c_.elementwise;
  }
  Both projections() const;
  Both mlp(double rows, double width) const;
  Both experts() const;
  Both elementwise(bool sparse) const;
  Both head() const;

  // --- communication ----------------------------------------------------------------------------
  // Moves `bytes` (n - 1) / n through each rank's links: gather or scatter of a whole of `bytes`.
  double ring(double bytes, const Group& group) const;
  double exchange(double bytes, const Group& group) const;
  double shown(double communication, double window) const {
    return c_.exposed * std::min(communication, window) + std::max(0.0, communication - window);
  }
  double tensor_collective() const {  // all-reduce, or its two halves, of one hidden state
    return run_.tensor == 1
               ? 0
               : 2 * ring(2 * tokens_ * as_double(shape_.hidden), group(run_.tensor, 1));
  }
  double context_exchange() const;
  double expert_exchange() const;

  // --- parameters -------------------------------------------------------------------------------
  double dense_layer_parameters() const {  // of a layer on one rank, experts apart
    return shape_.attention_parameters() / run_.tensor;
  }
  double mlp_parameters(bool sparse) const {
    return sparse ? as_double(shape_.hidden) * as_double(shape_.shared_width) *
                        (shape_.gated ? 3 : 2) / run_.tensor
                  : shape_.dense_parameters() / run_.tensor;
  }
  double expert_layer_parameters() const {
    return as_double(shape_.experts) * shape_.expert_parameters() / run_.expert;
  }

  struct Layer {
    Both compute;  // kernels and communication that shows, recomputation in backward
    Both products, attention, elementwise;
    double tensor = 0;
    double experts = 0;
  };
  Layer layer(bool sparse) const;

  const UniformRun& run_;
  const DecoderShape& shape_;
  const TrainingSoftware& software_;
  const ModelConstants& c_;
  const DeviceType& device_;
  const double node_size_;
  const double node_rate_;
  const double network_rate_;
  const double nodes_;
  const double tokens_;       // of a micro-batch on one rank, all heads
  const double norm_tokens_;  // the same where tensor ranks share the sequence
};

// At `peak`, which long sums reach.
double RunModel::product_at(double rows, double sum, double columns, double peak) const {
  if (rows * sum * columns == 0) {
    return 0;
  }
  // The start takes as long for every format, so a faster one needs a longer sum.
  const double start =
      c_.sum_start * std::max(1.0, peak / (device_.peak_bf16.count * device_.matrix_share));
  double share = (is_recent() ? c_.sustained_hopper : c_.sustained) * sum / (sum + start);
  if (std::fmod(columns, 64) != 0 || std::fmod(sum, 64) != 0) {
    share *= c_.odd_dimension;
  }
  return 2 * rows * sum * columns / (peak * share);
}

double RunModel::product(double rows, double sum, double columns, MatrixFormat format) const {
  const double half =
      product_at(rows, sum, columns, device_.peak_bf16.count * device_.matrix_share);
  switch (format) {
    case MatrixFormat::kHalf:
      break;
    case MatrixFormat::kFloat8:
    case MatrixFormat::kFloat8Blocks:
      return product_at(
          rows, sum, columns, device_.peak_fp8.count * device_.matrix_share * c_.small_format);
    case MatrixFormat::kFloat4Blocks:
      return c_.kept_half * half +
             (1 - c_.kept_half) *
                 product_at(rows,
                            sum,
                            columns,
                            device_.peak_fp4.count * device_.matrix_share * c_.small_format);
  }
  return half;
}

Both RunModel::linear(double rows, double in, double out) const {
  return linear(rows, in, out, software_.format);
}

Both RunModel::linear(double rows, double in, double out, MatrixFormat format) const {
  Both time{
      product(rows, in, out, format),
      c_.gradient_product * (product(rows, out, in, format) + product(in, rows, out, format))};
  if (format != MatrixFormat::kHalf) {
    time.forward += stream(c_.quantise_bytes * rows * in);
    time.backward += stream(c_.quantise_bytes * rows * out);
  }
  return time;
}

// Scores of a rank: causal halves, heads and sequence shared out.
Both RunModel::attention() const {
  const double pairs = tokens_ * as_double(run_.sequence) * (as_double(shape_.heads) / run_.tensor);
  const double key_width = as_double(shape_.head_width + shape_.latent.rotary_width);
  const double value_width =
      as_double(shape_.latent.exists() ? shape_.latent.value_width : shape_.head_width);
  const double rate = device_.peak_bf16.count * device_.matrix_share *
                      (is_recent() ? c_.sustained_hopper : c_.sustained);
  const double work = 2 * pairs * (key_width + value_width);
  const double misfit = std::fmod(key_width, 8) != 0 ? 3 : 1;
  if (software_.flash) {
    const double share = software_.tuned_attention ? c_.flash_tuned
                         : is_recent()             ? c_.flash * c_.flash_hopper
                                                   : c_.flash;
    const double forward = misfit * work / 2 / (rate * share);
    // The softmax's exponentials, again in backward, hide behind products only in part.
    const double softmax =
        device_.exponentials > 0 ? c_.softmax * pairs / 2 / device_.exponentials : 0;
    return {forward + softmax, 2.5 * forward / c_.flash_backward + softmax};
  }
  const double narrow = key_width / (key_width + c_.sum_start / 2);
  return {work / (rate * narrow) + stream(c_.score_forward * pairs),
          2 * work / (rate * narrow) + stream(c_.score_backward * pairs)};
}

Both RunModel::projections() const {
  const double t = run_.tensor;
  const double hidden = as_double(shape_.hidden);
  const auto heads = as_double(shape_.heads);
  Both time;
  if (shape_.latent.exists()) {
    const LatentProjections& latent = shape_.latent;
    const auto width = as_double(shape_.head_width);
    const auto rank = as_double(latent.key_value_rank);
    time += linear(tokens_, hidden, as_double(latent.query_rank));
    time += linear(tokens_,
                   as_double(latent.query_rank),
                   heads * (width + as_double(latent.rotary_width)) / t);
    time += linear(tokens_, hidden, rank + as_double(latent.rotary_width));
    time += linear(tokens_, rank, heads * (width + as_double(latent.value_width)) / t);
    time += linear(tokens_, heads * as_double(latent.value_width) / t, hidden);
    return time;
  }
  const auto width = as_double(shape_.head_width);
  const double outputs = (heads + 2 * as_double(shape_.key_value_heads)) * width / t;
  time += linear(tokens_, hidden, outputs);
  time += linear(tokens_, heads * width / t, hidden);
  return time;
}

Both RunModel::mlp(double rows, double width) const {
  Both time;
  const auto hidden = as_double(shape_.hidden);
  time += linear(rows, hidden, (shape_.gated ? 2 : 1) * width);
  time += linear(rows, width, hidden);
  return time;
}

// Routed tokens of a rank, even routing; one product for each expert.
Both RunModel::experts() const {
  const double routed = norm_tokens_ * as_double(shape_.experts_per_token);
  Both time = mlp(routed, as_double(shape_.expert_width));
  time.forward /= c_.grouped;
  time.backward /= c_.grouped;
  // Weight gradients sum over the rows of one expert only: the loads' pipeline starts each time.
  const double rows = routed * run_.expert / as_double(shape_.experts);
  time.backward *= 1 + 0.5 * c_.sum_start / rows;
  const double permute = stream(c_.permute_bytes / 2 * routed * as_double(shape_.hidden));
  time.forward += permute;
  time.backward += permute;
  if (shape_.shared_width == 0) {
    return time;
  }
  time += mlp(tokens_, as_double(shape_.shared_width) / run_.tensor);
  return time;
}

// Bytes of the least traffic at two bytes an element: a norm reads and writes (4 h), a residual
// addition reads two and writes one (6 h), an activation reads its inputs and writes one; backward
// moves half as much again for norms and activations.
Both RunModel::elementwise(bool sparse) const {
  const auto hidden = as_double(shape_.hidden);
  const double rows = norm_tokens_;
  double forward = rows * hidden * (2 * 4 + 2 * 6 + (software_.dropout ? 2 * 5 : 0));
  const double width = sparse ? as_double(shape_.experts_per_token * shape_.expert_width)
                              : as_double(shape_.feed_forward) / run_.tensor;
  const double inner_rows = sparse ? norm_tokens_ : tokens_;
  forward += inner_rows * width * (shape_.gated ? 6 : 4);
  const double heads = as_double(shape_.heads + 2 * shape_.key_value_heads) / run_.tensor;
  forward += tokens_ * heads * as_double(shape_.head_width) * 4;  // rotary or bias and transposes
  const double time = elementwise_factor() * stream(forward);
  return {time, 1.5 * time};
}

// Product with the vocabulary and the loss: logits in two bytes, softmax in four: about 14 bytes.
Both RunModel::head() const {
  const double columns = std::ceil(as_double(shape_.vocabulary) / run_.tensor / 64) * 64;
  Both time = linear(tokens_, as_double(shape_.hidden), columns, MatrixFormat::kHalf);
  const double loss = elementwise_factor() * stream(tokens_ * columns * 8);
  time.forward += loss;
  time.backward += loss;
  return time;
}

double RunModel::ring(double bytes, const Group& group) const {
  if (group.ranks <= 1) {
    return 0;
  }
  const double n = group.ranks;
  const double inside = node_rate_;
  const bool leaves = group.on_node < n;
  const double rate = leaves ? std::min(inside, network_rate_ * group.on_node) : inside;
  const double hops = std::ceil(std::log2(n));
  return bytes * (n - 1) / n / rate +
         (leaves ? c_.network_latency * (1 + 0.2 * hops) : c_.node_latency);
}

double RunModel::exchange(double bytes, const Group& group) const {
  if (group.ranks <= 1) {
    return 0;
  }
  const double n = group.ranks;
  const double k = as_double(std::max<std::int64_t>(shape_.experts_per_token, 1));
  const double nodes = n / group.on_node;
  double inside = bytes * (group.on_node - 1) / n / node_rate_;
  double outside = bytes * (n - group.on_node) / n / network_rate_;
  if (software_.sends_tokens_once) {
    // Of k experts drawn evenly, a share of distinct ranks and nodes: bytes = k copies of a token.
    const double once = bytes / k;
    inside = once * (group.on_node - 1) * (1 - std::pow(1 - 1 / n, k)) / node_rate_;
    outside = once * (nodes - 1) * (1 - std::pow(1 - 1 / nodes, k)) / network_rate_;
  }
  return std::max(inside, outside) / c_.all_to_all +
         (group.on_node < n ? c_.network_latency : c_.node_latency);
}

// Keys and values pass around the ring once forward; they and their gradients backward.
double RunModel::context_exchange() const {
  if (run_.context == 1) {
    return 0;
  }
  const double bytes = 2 * 2 * tokens_ * as_double(shape_.key_value_heads) *
                       as_double(shape_.head_width) / run_.tensor * run_.context;
  return ring(bytes, group(run_.context, run_.tensor));
}

double RunModel::expert_exchange() const {
  const double bytes =
      2 * norm_tokens_ * as_double(shape_.experts_per_token) * as_double(shape_.hidden);
  return 2 * exchange(bytes, group(run_.expert, 1));
}

RunModel::Layer RunModel::layer(bool sparse) const {
  Layer layer;
  layer.products = projections();
  layer.products += sparse ? experts() : mlp(tokens_, as_double(shape_.feed_forward) / run_.tensor);
  layer.attention = attention();
  layer.elementwise = elementwise(sparse);
  Both compute = layer.products;
  compute += layer.attention;
  compute += layer.elementwise;
  const double tensor = (sparse ? 1 : 2) * tensor_collective();
  const double window = layer.products.forward;
  Both communication;
  communication.forward = software_.overlaps_tensor ? shown(tensor, window) : tensor;
  communication.backward = software_.overlaps_tensor ? shown(tensor, 2 * window) : tensor;
  layer.tensor = communication.sum();
  const double ring_time = context_exchange();
  communication.forward += shown(ring_time, layer.attention.forward);
  communication.backward += shown(2 * ring_time, layer.attention.backward);
  if (sparse) {
    const double tokens = expert_exchange();
    layer.experts = 2 * tokens;
    const bool hides = software_.overlaps_experts;
    communication.forward += hides ? shown(tokens, compute.forward) : tokens;
    communication.backward += hides ? shown(tokens, compute.backward) : tokens;
  }
  layer.compute = compute;
  layer.compute += communication;
  // The host feeds the device: with few tokens it is the slower one.
  const double host =
      sparse
          ? std::max(c_.layer, c_.expert_layer * std::exp(-c_.maturing * (software_.year - 2025.5)))
          : c_.layer;
  layer.compute.forward = std::max(layer.compute.forward, host / 3);
  layer.compute.backward = std::max(layer.compute.backward, host * 2 / 3);
  switch (run_.recompute) {
    case Recompute::kNone:
      break;
    case Recompute::kSelective:
      layer.compute.backward += software_.selective_is_half ? 0.5 * compute.forward
                                : software_.flash           ? layer.elementwise.forward / 2
                                                            : layer.attention.forward;
      break;
    case Recompute::kFull:
      layer.compute.backward += layer.compute.forward;
      break;
  }
  return layer;
}

UniformTime RunModel::estimate() const {
  const double p = run_.pipeline;
  const double v = run_.chunks;
  const double m = as_double(run_.microbatches);
  const auto layers = as_double(shape_.layers + shape_.prediction_layers);
  const double sparse_layers = shape_.experts > 0 ? layers - as_double(shape_.dense_layers) : 0;
  const Layer dense = layer(false);
  const Layer sparse = shape_.experts > 0 ? layer(true) : dense;
  const double share = sparse_layers / layers;
  Both mean = dense.compute;
  mean.forward += share * (sparse.compute.forward - dense.compute.forward);
  mean.backward += share * (sparse.compute.backward - dense.compute.backward);
  const double heads = 1 + as_double(shape_.prediction_layers);
  Both head_time = head();
  head_time.forward *= heads;
  head_time.backward *= heads;

  const double more = as_double(shape_.prediction_layers) / p;
  const double inner = stage_layers(run_, false) + more;
  const double last = stage_layers(run_, true) + more;
  const double state_window = mean.backward * inner;

  // Parameters of a rank: those that every data rank holds, and experts.
  const double whole =
      (share < 1 ? (1 - share) * layers / p * (dense_layer_parameters() + mlp_parameters(false))
                 : 0) +
      share * layers / p * (dense_layer_parameters() + mlp_parameters(true)) +
      (p == 1 && !shape_.tied ? 2 : 1) * shape_.vocabulary_parameters() / run_.tensor;
  const double routed = share * layers / p * expert_layer_parameters();
  const Group data = group(as_double(run_.data) * run_.context, run_.tensor);
  const Group expert_data = group(
      std::max(1.0, as_double(run_.data) * run_.context * run_.tensor / run_.expert), run_.expert);

  double per_microbatch = 0;
  double per_step = 0;
  const double gather = ring(2 * whole, data) + ring(2 * routed, expert_data);
  const double scatter = ring(software_.gradient_bytes * whole, data) +
                         ring(software_.gradient_bytes * routed, expert_data);
  const auto state = [&](double communication, double window) {
    return software_.overlaps_data ? shown(communication, window) : communication;
  };
  switch (run_.zero) {
    case 0:
      per_step = 2 * scatter;
      break;
    case 1:
      per_step = scatter + gather;
      break;
    case 2:
      per_microbatch = state(gather, mean.forward * inner) + state(scatter, state_window);
      break;
    default:
      per_microbatch = state(gather, mean.forward * inner) + state(gather + scatter, state_window);
      break;
  }
  // Reductions run while the last micro-batches' backward does, chunk after chunk.
  const double window =
      inner * (mean.forward + mean.backward) * (1 / v + std::min(p, m) * (v - 1) / v);
  UniformTime time;
  time.exposed = state(per_step, window);

  // Messages between stages: forward and backward for each chunk.
  double message = 0;
  if (p > 1) {
    // Tensor ranks send a part each and gather it behind (Narayanan et al., SC'21, 4.1).
    const double bytes = 2 * tokens_ / run_.tensor * as_double(shape_.hidden);
    const bool leaves = run_.tensor * run_.context * run_.data * run_.pipeline > node_size_;
    message = bytes / (leaves ? network_rate_ : node_rate_) +
              (leaves ? c_.network_latency : c_.node_latency);
  }
  const double messages = 2 * v * message;
  const double inner_time = inner * mean.sum();
  const double last_time = last * mean.sum() + head_time.sum();
  const double shown_messages =
      software_.overlaps_pipeline ? shown(messages, inner_time) : messages;
  const double slowest = std::max(inner_time, last_time) + shown_messages + per_microbatch;
  const double mean_stage =
      ((p - 1) * inner_time + last_time) / p + shown_messages + per_microbatch;
  time.steady = m * slowest;
  double bubble = (p - 1) / v * mean_stage;
  if (run_.schedule == RunSchedule::kZeroBubble1) {
    bubble /= 3;
  } else if (run_.schedule == RunSchedule::kZeroBubble2) {
    bubble = 0;
  }
  time.bubble = bubble;
  const double state_ranks = run_.zero >= 1 ? data.ranks : 1;
  const double expert_state_ranks = run_.zero >= 1 ? expert_data.ranks : 1;
  time.update = stream(c_.update_bytes * (whole / state_ranks + routed / expert_state_ranks));
  time.host = c_.step;
  const double growth = 1 + c_.per_doubling * std::log2(nodes_);
  time.step = (time.steady + time.bubble + time.exposed) * growth + time.update + time.host;
  const Layer& shown_layer = shape_.experts > 0 ? sparse : dense;
  time.products = shown_layer.products.sum();
  time.attention = shown_layer.attention.sum();
  time.elementwise = shown_layer.elementwise.sum();
  time.tensor_communication = shown_layer.tensor;
  time.expert_communication = shown_layer.experts;
  return time;
}

}  // namespace

double stage_layers(const UniformRun& run, bool is_end) {
  const std::int64_t stages = run.pipeline;
  const std::int64_t layers = run.shape.layers;
  if (layers % stages != 0 && (layers + 2) % stages == 0) {
    return as_double((layers + 2) / stages - (is_end ? 1 : 0));
  }
  return as_double(is_end ? layers / stages : (layers + stages - 1) / stages);
}

UniformTime estimate_uniform_run(const UniformRun& run,
                                 const Cluster& cluster,
                                 const ModelConstants& constants) {
  return RunModel(run, cluster, constants).estimate();
}

}  // namespace shardwise
