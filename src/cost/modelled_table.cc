// Times from data sheets. Every constant has its source here and in docs/cost_model.md.
#include "cost/modelled_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/errors.h"
#include "cost/model_accuracy.h"
#include "cost/op_model.h"

namespace shardwise {

namespace {

double as_double(std::int64_t value) { return static_cast<double>(value); }

int nodes_of(const Cluster& cluster) {
  return (cluster.num_devices() + cluster.levels.front().size - 1) / cluster.levels.front().size;
}

}  // namespace

ModelledTable::ModelledTable(Cluster cluster,
                             const Execution& execution,
                             const ModelConstants& constants)
    : cluster_(std::move(cluster)), collectives_(cluster_), execution_(execution) {
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
  set_constants(constants);
}

void ModelledTable::set_constants(const ModelConstants& constants) {
  constants_ = constants;
  execution_.exposed = constants.exposed;
  waiting_ = 1 + constants.per_doubling * std::log2(nodes_of(cluster_));
}

const DeviceType& ModelledTable::device(int device_type) const {
  return cluster_.types.at(static_cast<std::size_t>(device_type));
}

Estimate ModelledTable::op_time(const Op& op,
                                std::span<const std::int64_t> sizes,
                                Direction direction,
                                Precision precision,
                                int device_type) const {
  const OpModel model(device(device_type), execution_, constants_, precision);
  return {waiting_ * model.time(op, sizes, direction)};
}

Estimate ModelledTable::collective_time(CollectiveKind kind,
                                        Bytes payload,
                                        Precision,
                                        const GroupPlacement& placement) const {
  if (kind == CollectiveKind::kSlice || placement.ranks <= 1 || payload.count == 0) {
    return {};
  }
  const Estimate estimate =
      collectives_.time(kind, payload, placement, execution_.token_copies, constants_);
  return {waiting_ * estimate.time, estimate.extrapolated};
}

// Bandwidth is per device, so messages of different devices do not share it.
Estimate ModelledTable::transfer_time(Bytes size, int level, int) const {
  return {waiting_ * collectives_.message(size, level, constants_)};
}

// AdamW streams, for each element: norm reads the gradient (4), the update reads gradient, weight
// and two moments (16), writes weight and moments (12), zeroes the gradient (4); bf16 writes a copy
// (2).
Estimate ModelledTable::optimizer_time(std::int64_t elements,
                                       Precision precision,
                                       int device_type) const {
  const double bytes = precision == Precision::kBFloat16 ? 38 : 36;
  const OpModel model(device(device_type), execution_, constants_, precision);
  return {Seconds(constants_.launch + model.stream(bytes * as_double(elements)))};
}

// Two reads and a write.
Estimate ModelledTable::accumulate_time(Bytes size, int device_type) const {
  const OpModel model(device(device_type), execution_, constants_, Precision::kBFloat16);
  return {waiting_ * Seconds(std::max(constants_.launch, model.stream(3 * as_double(size.count))))};
}

double ModelledTable::overlap_fraction(int) const { return constants_.overlap; }

Estimate ModelledTable::step_overhead(int) const { return {Seconds(constants_.step)}; }

// Part of DeviceType::reserve.
Bytes ModelledTable::process_memory() const { return Bytes(0); }

std::string ModelledTable::provenance() const {
  std::string names;
  for (const DeviceType& type : cluster_.types) {
    names +=
        fmt::format("{}{} ({})", names.empty() ? "" : ", ", type.name, accuracy_text(type.name));
  }
  return fmt::format("modelled from data sheets: {}", names);
}

}  // namespace shardwise
