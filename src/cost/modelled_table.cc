// Times from data sheets. Every constant has its source here and in docs/cost_model.md.
#include "cost/modelled_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/errors.h"
#include "graph/layer_body.h"

namespace shardwise {

namespace {

// Best matrix product / data sheet: A100 271/312 = 0.87, H100 795/989 = 0.80 TFLOP/s bf16 (Bekman,
// "Machine Learning Engineering", maximum achievable matmul FLOPS). Between the two.
constexpr double kMatrixCeiling = 0.83;
// Sums shorter than this pay for the start of the pipeline of loads: k / (k + 128), a tile of
// CUTLASS's usual k extent times two stages.
constexpr double kSumStart = 128;
// Results are computed in tiles; parts of tiles cost as much as whole ones.
constexpr std::int64_t kTile = 64;
// Flash attention reaches 50-73 % of the data sheet on A100 (Dao, FlashAttention-2, abstract).
constexpr double kAttentionCeiling = 0.5;
// Streams reach this share of the data sheet's memory bandwidth: 0.85 (reference of this project:
// fits of published training runs).
constexpr double kMemoryShare = 0.85;
// A transformer layer that has nothing to do takes about 0.35 ms forward and backward (published
// runs with tiny micro-batches), about 90 kernels: 4 us each.
constexpr double kLaunch = 4e-6;
// Ring all-reduce on an H200 node: 366 of 450 GB/s a direction.
constexpr double kNodeShare = 0.81;
// Network bandwidth reached by large messages in published runs.
constexpr double kNetworkShare = 0.87;
// Overlapped kernels slow each other by 1.1-1.3 (Miao et al., VLDB'23, Galvatron): 1 / 1.2.
constexpr double kOverlap = 0.83;
// Data loading, logging and the host's part of a step in published runs.
constexpr double kStepOverhead = 20e-3;

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

double as_double(std::int64_t value) { return static_cast<double>(value); }

// Share of the ceiling that a product [rows, sum] x [sum, columns] reaches.
double matrix_efficiency(std::int64_t rows, std::int64_t sum, std::int64_t columns) {
  const double tiles = as_double(rows) * as_double(columns) /
                       (as_double(round_up(rows, kTile)) * as_double(round_up(columns, kTile)));
  return tiles * as_double(sum) / (as_double(sum) + kSumStart);
}

// Share of the data sheet's peak that the op's arithmetic reaches; `sizes` as in OpKey.
double peak_share(const OpKey& key, Direction direction) {
  const std::vector<std::int64_t>& n = key.sizes;
  if (is_sequence_attention(key.kind) || key.kind == OpKind::kWindowAttention) {
    return kAttentionCeiling;
  }
  // Convolutions as implicit matrix products (Chetlur et al., "cuDNN", 2014, section 3): rows are
  // places, sums run over input channels and the kernel.
  if (key.kind == OpKind::kPatchEmbedding) {
    return kMatrixCeiling * (direction == Direction::kBackwardWeight
                                 ? matrix_efficiency(n[1], n[0], n[2])
                                 : matrix_efficiency(n[0], n[1], n[2]));
  }
  if (key.kind == OpKind::kConv2d) {
    const std::int64_t sums = n[1] * n[3];
    switch (direction) {
      case Direction::kForward:
        return kMatrixCeiling * matrix_efficiency(n[0], sums, n[2]);
      case Direction::kBackwardInput:
        return kMatrixCeiling * matrix_efficiency(n[0], n[2] * n[3], n[1]);
      default:
        return kMatrixCeiling * matrix_efficiency(sums, n[0], n[2]);
    }
  }
  if (key.kind == OpKind::kLinear) {
    switch (direction) {
      case Direction::kForward:
        return kMatrixCeiling * matrix_efficiency(n[0], n[1], n[2]);
      case Direction::kBackwardInput:
        return kMatrixCeiling * matrix_efficiency(n[0], n[2], n[1]);
      default:
        return kMatrixCeiling * matrix_efficiency(n[1], n[0], n[2]);
    }
  }
  if (key.kind == OpKind::kExperts) {  // one product for each expert
    const std::int64_t rows = std::max<std::int64_t>(n[0] / std::max<std::int64_t>(n[1], 1), 1);
    return kMatrixCeiling * matrix_efficiency(rows, n[3], n[2]);
  }
  return kMatrixCeiling;
}

int kernels_of(Direction direction) { return direction == Direction::kBackward ? 2 : 1; }

}  // namespace

ModelledTable::ModelledTable(Cluster cluster) : cluster_(std::move(cluster)) {
  const std::string where = fmt::format("cluster {}", cluster_.name);
  for (const DeviceType& type : cluster_.types) {
    if (!(type.peak_fp32.count > 0) || !(type.peak_bf16.count > 0) ||
        !(type.memory_bandwidth.count > 0)) {
      throw InputError(where,
                       fmt::format("device type {}: expected positive peak_fp32, peak_bf16 and "
                                   "memory_bandwidth, found {}, {} FLOP/s and {} B/s; add them or "
                                   "run shardwise profile",
                                   type.name,
                                   type.peak_fp32.count,
                                   type.peak_bf16.count,
                                   type.memory_bandwidth.count));
    }
  }
  if (cluster_.types.empty() || cluster_.levels.empty()) {
    throw InputError(where, "expected at least one device type and one network level");
  }
  for (const NetworkLevel& level : cluster_.levels) {
    if (!(level.bandwidth.count > 0) || level.size < 1) {
      throw InputError(where,
                       fmt::format("network level {}: expected a positive size and bandwidth, "
                                   "found {} and {} B/s",
                                   level.name,
                                   level.size,
                                   level.bandwidth.count));
    }
  }
}

const DeviceType& ModelledTable::device(int device_type) const {
  return cluster_.types.at(static_cast<std::size_t>(device_type));
}

// The slower of arithmetic and memory, plus a launch.
Estimate ModelledTable::op_time(const Op& op,
                                std::span<const std::int64_t> sizes,
                                Direction direction,
                                Precision precision,
                                int device_type) const {
  const DeviceType& type = device(device_type);
  const OpDefinition& definition = definition_of(op.kind);
  const OpKey key = op_key(op, sizes, precision);
  const double peak =
      precision == Precision::kBFloat16 ? type.peak_bf16.count : type.peak_fp32.count;
  const double arithmetic =
      definition.work(op, sizes, direction).count / (peak * peak_share(key, direction));
  const Bytes traffic =
      definition.traffic(op, sizes, direction, element_bytes(ElementType::kCompute, precision));
  const double memory = as_double(traffic.count) / (type.memory_bandwidth.count * kMemoryShare);
  return {Seconds(std::max(arithmetic, memory) + kernels_of(direction) * kLaunch)};
}

// Rings by level: inside a node first, then between equal places of the nodes, each rank over its
// own link. With S = bytes of the whole (gathered) tensor, g ranks of a group on a node, k = n / g:
//   all-gather, reduce-scatter   S (g - 1) / g / bw_node + (S / g) (k - 1) / k / bw_network
//   all-reduce                   both, one after the other; payload = 2 S
//   all-to-all                   input S: S (g - 1) / n to ranks of the node, S (n - g) / n outside
// and one latency for each doubling of the ranks (Thakur et al., IJHPCA 2005, recursive doubling).
Estimate ModelledTable::collective_time(CollectiveKind kind,
                                        Bytes payload,
                                        Precision,
                                        const GroupPlacement& placement) const {
  if (kind == CollectiveKind::kSlice || placement.ranks <= 1 || payload.count == 0) {
    return {};
  }
  const double n = placement.ranks;
  const double g = placement.level == 0 ? n : std::max(placement.ranks_per_node, 1);
  const double k = std::max(n / g, 1.0);
  const NetworkLevel& node = cluster_.levels.front();
  double network_rate = node.bandwidth.count;
  double network_latency = 0;
  for (int level = 1; level <= placement.level; ++level) {
    const NetworkLevel& outer = cluster_.levels.at(static_cast<std::size_t>(level));
    network_rate = std::min(network_rate, outer.bandwidth.count);
    network_latency = std::max(network_latency, outer.latency.count);
  }
  const double node_rate = node.bandwidth.count * kNodeShare;
  network_rate *= kNetworkShare;
  const double latency =
      std::ceil(std::log2(g)) * node.latency.count + std::ceil(std::log2(k)) * network_latency;
  const double size = as_double(payload.count);
  if (kind == CollectiveKind::kAllToAll) {
    return {Seconds(kLaunch + latency + size * (g - 1) / n / node_rate +
                    size * (n - g) / n / network_rate)};
  }
  const double passes = kind == CollectiveKind::kAllReduce ? 2 : 1;
  const double whole = size / passes;
  const double pass =
      latency + whole * (g - 1) / g / node_rate + whole / g * (k - 1) / k / network_rate;
  return {Seconds(kLaunch + passes * pass)};
}

// Bandwidth is per device, so messages of different devices do not share it.
Estimate ModelledTable::transfer_time(Bytes size, int level, int) const {
  const NetworkLevel& link = cluster_.levels.at(static_cast<std::size_t>(level));
  const double rate = link.bandwidth.count * (level == 0 ? kNodeShare : kNetworkShare);
  return {Seconds(kLaunch + link.latency.count + as_double(size.count) / rate)};
}

// AdamW streams, for each element: norm reads the gradient (4), the update reads gradient, weight
// and two moments (16), writes weight and moments (12), zeroes the gradient (4); bf16 writes a copy
// (2).
Estimate ModelledTable::optimizer_time(std::int64_t elements,
                                       Precision precision,
                                       int device_type) const {
  const double bytes = precision == Precision::kBFloat16 ? 38 : 36;
  const double rate = device(device_type).memory_bandwidth.count * kMemoryShare;
  return {Seconds(kLaunch + bytes * as_double(elements) / rate)};
}

// Two reads and a write.
Estimate ModelledTable::accumulate_time(Bytes size, int device_type) const {
  const double rate = device(device_type).memory_bandwidth.count * kMemoryShare;
  return {Seconds(kLaunch + 3 * as_double(size.count) / rate)};
}

double ModelledTable::overlap_fraction(int) const { return kOverlap; }

Estimate ModelledTable::step_overhead(int) const { return {Seconds(kStepOverhead)}; }

// Part of DeviceType::reserve.
Bytes ModelledTable::process_memory() const { return Bytes(0); }

std::string ModelledTable::provenance() const {
  std::string names;
  for (const DeviceType& type : cluster_.types) {
    names += (names.empty() ? "" : ", ") + type.name;
  }
  return fmt::format("modelled from data sheets: {}", names);
}

}  // namespace shardwise
