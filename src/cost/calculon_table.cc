#include "cost/calculon_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/errors.h"
#include "cost/op_key.h"
#include "graph/layer_body.h"

namespace shardwise {

namespace {

double as_double(std::int64_t value) { return static_cast<double>(value); }

// Passes over scores, forward and backward: softmax and dropout. Arithmetic of an element.
constexpr double kSoftmax = 5;
constexpr double kSoftmaxBackward = 8;
constexpr double kAdamFlops = 11;  // of an element

bool is_attention(OpKind kind) {
  return kind == OpKind::kAttention || kind == OpKind::kRelativeAttention ||
         kind == OpKind::kLatentAttention || kind == OpKind::kWindowAttention;
}

int nodes_of(const Cluster& cluster) {
  const int inner = cluster.levels.front().size;
  return (cluster.num_devices() + inner - 1) / inner;
}

}  // namespace

double CalculonEngine::time(double work) const {
  const auto step = std::find_if(
      steps.begin(), steps.end(), [&](const EfficiencyStep& s) { return work >= s.least; });
  return work == 0 ? 0 : work / (peak * step->share);
}

Cluster CalculonSystem::cluster(int devices) const {
  Cluster cluster;
  cluster.name = fmt::format("{}:{}", name, devices);
  DeviceType type;
  type.name = name;
  type.memory = Bytes(std::llround(memory_bytes));
  type.peak_bf16 = FlopsPerSecond(matrix.peak);
  type.peak_fp32 = FlopsPerSecond(vector.peak);
  type.memory_bandwidth = BytesPerSecond(memory.peak);
  cluster.types = {type};
  cluster.groups = {{0, devices}};
  int joined = 1;
  for (std::size_t i = 0; i < networks.size() && joined < devices; ++i) {
    const CalculonNetwork& network = networks[i];
    const int reached = std::min(devices, network.size);
    if (reached % joined != 0 || (devices % reached != 0)) {
      throw InputError(fmt::format("cluster {}", cluster.name),
                       fmt::format("{} devices are no whole number of networks of {}",
                                   devices,
                                   devices % reached != 0 ? network.size : joined));
    }
    if (reached == joined) {
      continue;
    }
    cluster.levels.push_back({fmt::format("network{}", i),
                              reached / joined,
                              BytesPerSecond(network.bytes_per_second * network.efficiency),
                              Seconds(network.latency)});
    joined = reached;
  }
  if (cluster.levels.empty()) {
    cluster.levels.push_back(
        {"network0", 1, BytesPerSecond(networks.front().bytes_per_second), Seconds(0)});
  }
  if (joined < devices) {
    throw InputError(fmt::format("cluster {}", cluster.name),
                     fmt::format("its networks join at most {} devices", joined));
  }
  return cluster;
}

CalculonTable::CalculonTable(CalculonSystem system,
                             const Cluster& cluster,
                             const Execution& execution)
    : system_(std::move(system)),
      rest_(cluster, execution),
      waiting_(1 + ModelConstants().per_doubling * std::log2(nodes_of(cluster))) {}

double CalculonTable::pass(const CalculonEngine& engine, double flops, double bytes) const {
  const double arithmetic = engine.time(flops);
  const double traffic = system_.memory.time(bytes);
  return system_.adds ? arithmetic + traffic : std::max(arithmetic, traffic);
}

// Two products; without flash all scores between them are written and read by softmax and dropout.
double CalculonTable::attention(const Op& op,
                                std::span<const std::int64_t> sizes,
                                Direction direction,
                                Precision precision) const {
  const OpDefinition& definition = definition_of(op.kind);
  const std::int64_t element = element_bytes(ElementType::kCompute, precision);
  const double traffic = as_double(definition.traffic(op, sizes, direction, element).count);
  const AttentionKernel kernel = execution().attention;
  const bool backward = direction != Direction::kForward;
  if ((kernel != AttentionKernel::kStored && kernel != AttentionKernel::kRecomputed) ||
      op.kind != OpKind::kAttention) {
    return pass(system_.matrix, definition.work(op, sizes, direction).count, traffic);
  }
  const std::vector<std::int64_t> n = op_key(op, sizes, precision).sizes;
  const double pairs = as_double(n[0]) * as_double(n[1]) * as_double(n[2]) * as_double(n[3]);
  const double width = as_double(n[4]);
  const double bytes = as_double(element);
  const double product = pass(system_.matrix, 2 * pairs * width, bytes * pairs + traffic / 2);
  const double mask =
      execution().dropout ? pass(system_.vector, pairs, (2 * bytes + 1) * pairs) : 0;
  const double forward =
      2 * product + pass(system_.vector, kSoftmax * pairs, 2 * bytes * pairs) + mask;
  if (!backward) {
    return forward;
  }
  const double again = kernel == AttentionKernel::kRecomputed ? forward : 0;
  return 4 * product + pass(system_.vector, kSoftmaxBackward * pairs, 2 * bytes * pairs) + mask +
         again;
}

Estimate CalculonTable::op_time(const Op& op,
                                std::span<const std::int64_t> sizes,
                                Direction direction,
                                Precision precision,
                                int) const {
  const OpDefinition& definition = definition_of(op.kind);
  const std::int64_t element = element_bytes(ElementType::kCompute, precision);
  const double flops = definition.work(op, sizes, direction).count;
  double bytes = as_double(definition.traffic(op, sizes, direction, element).count);
  double time = 0;
  if (is_attention(op.kind)) {
    time = attention(op, sizes, direction, precision);
  } else if (definition.splits_backward) {
    const double passes = direction == Direction::kBackward ? 2 : 1;
    time = passes * pass(system_.matrix, flops / passes, bytes / passes);
  } else {
    if (op.kind == OpKind::kAdd && execution().dropout) {
      // Result and mask of the dropout before the addition.
      bytes += (2 * as_double(element) + 1) * as_double(op_key(op, sizes, precision).sizes[0]);
    }
    time = pass(system_.vector, flops, bytes);
  }
  return {Seconds(waiting_ * time)};
}

Estimate CalculonTable::collective_time(CollectiveKind kind,
                                        Bytes payload,
                                        Precision,
                                        const GroupPlacement& placement) const {
  if (kind == CollectiveKind::kSlice || placement.ranks <= 1 || payload.count == 0) {
    return {};
  }
  const auto level =
      std::min(static_cast<std::size_t>(placement.level), system_.networks.size() - 1);
  const CalculonNetwork& network = system_.networks[level];
  const bool adds = kind == CollectiveKind::kAllReduce;
  const CalculonNetwork::Operation& operation = adds ? network.all_reduce
                                                : kind == CollectiveKind::kReduceScatter
                                                    ? network.reduce_scatter
                                                    : network.all_gather;
  const double size = as_double(payload.count) / (adds ? 2 : 1);
  const double sent = size * operation.factor * (1 + operation.offset / placement.ranks);
  return {Seconds(waiting_ *
                  (network.latency + sent / (network.bytes_per_second * network.efficiency)))};
}

Estimate CalculonTable::transfer_time(Bytes size, int level, int) const {
  const CalculonNetwork& network =
      system_.networks[std::min(static_cast<std::size_t>(level), system_.networks.size() - 1)];
  return {
      Seconds(waiting_ * (network.latency + as_double(size.count) * network.message.factor /
                                                (network.bytes_per_second * network.efficiency)))};
}

// Moments and master copy are read and written, the gradient read, in fp32.
Estimate CalculonTable::optimizer_time(std::int64_t elements, Precision, int) const {
  return {
      Seconds(pass(system_.vector, kAdamFlops * as_double(elements), 28 * as_double(elements)))};
}

Estimate CalculonTable::accumulate_time(Bytes size, int) const {
  return {Seconds(waiting_ *
                  pass(system_.vector, as_double(size.count) / 4, 3 * as_double(size.count)))};
}

double CalculonTable::overlap_fraction(int device_type) const {
  return rest_.overlap_fraction(device_type);
}

Estimate CalculonTable::step_overhead(int ranks) const { return rest_.step_overhead(ranks); }

Bytes CalculonTable::process_memory() const { return rest_.process_memory(); }

std::string CalculonTable::provenance() const {
  return fmt::format("modelled from Calculon's system {}", system_.name);
}

}  // namespace shardwise
