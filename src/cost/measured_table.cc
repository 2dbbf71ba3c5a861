#include "cost/measured_table.h"

#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <optional>

#include "core/errors.h"

namespace shardwise {

namespace {

constexpr const char* kRemedy =
    "the table does not cover this plan; run shardwise profile for this model and these ranks";

[[noreturn]] void missing(const std::string& what) {
  throw InputError("measured table", fmt::format("no row for {}: {}", what, kRemedy));
}

Estimate flagged(Estimate estimate, bool exact) {
  estimate.extrapolated |= !exact;
  return estimate;
}

const char* name_of(Direction direction) {
  switch (direction) {
    case Direction::kForward:
      return "forward";
    case Direction::kBackwardInput:
      return "backward-input";
    case Direction::kBackwardWeight:
      return "backward-weight";
    case Direction::kBackward:
      return "backward";
  }
  return "?";
}

// Moves of bytes do not depend on what the bytes mean.
Precision canonical(CollectiveKind kind, Precision precision) {
  const bool adds = kind == CollectiveKind::kAllReduce || kind == CollectiveKind::kReduceScatter;
  return adds ? precision : Precision::kFloat32;
}

OpKey family_of(OpKey key) {
  key.sizes.at(0) = 0;
  return key;
}

void check_row(const std::string& what, std::int64_t size, Seconds time) {
  if (size <= 0 || !(time.count > 0) || !std::isfinite(time.count)) {
    throw InputError("measured table",
                     fmt::format("{}: expected a positive size and time, found size {} and {} s; "
                                 "run shardwise profile again",
                                 what,
                                 size,
                                 time.count));
  }
}

}  // namespace

MeasuredCostTable::MeasuredCostTable(const MeasuredTable& table)
    : overlap_fraction_(table.overlap_fraction), process_memory_(table.process_memory) {
  for (const MeasuredTable::OpRow& row : table.ops) {
    if (row.key.sizes.empty()) {
      throw InputError("measured table", to_string(row.key) + ": expected sizes, found none");
    }
    check_row(to_string(row.key), row.key.sizes[0], row.time);
    ops_[{family_of(row.key), row.direction, row.device_type}][row.key.sizes[0]] = row.time;
  }
  for (const MeasuredTable::CollectiveRow& row : table.collectives) {
    check_row(to_string(row.kind), row.payload.count, row.time);
    collectives_[{row.kind, canonical(row.kind, row.precision), row.placement}][row.payload.count] =
        row.time;
  }
  for (const MeasuredTable::TransferRow& row : table.transfers) {
    check_row("transfer", row.size.count, row.time);
    transfers_[{row.level, row.concurrent}][row.size.count] = row.time;
  }
  for (const MeasuredTable::OptimizerRow& row : table.optimizer) {
    check_row("optimizer", row.elements, row.time);
    optimizer_[{row.precision, row.device_type}][row.elements] = row.time;
  }
  for (const MeasuredTable::AccumulateRow& row : table.accumulate) {
    check_row("accumulate", row.size.count, row.time);
    accumulate_[row.device_type][row.size.count] = row.time;
  }
  for (const MeasuredTable::StepOverheadRow& row : table.step_overhead) {
    check_row("step overhead", row.ranks, row.time);
    step_overhead_[row.ranks] = row.time;
  }
  provenance_ = fmt::format("measured on {}, {}", table.machine, table.date);
  for (const auto& [name, version] : table.versions) {
    provenance_ += fmt::format(", {} {}", name, version);
  }
}

Estimate MeasuredCostTable::op_time(const Op& op,
                                    std::span<const std::int64_t> sizes,
                                    Direction direction,
                                    Precision precision,
                                    int device_type) const {
  const OpKey key = op_key(op, sizes, precision);
  const auto family = ops_.find({family_of(key), direction, device_type});
  if (family == ops_.end()) {
    missing(fmt::format("{} {} (op {})", to_string(key), name_of(direction), op.name));
  }
  return read_curve(family->second, key.sizes[0]);
}

// The same placement, else the one most like it: same ranks and level, nearest in ranks per node,
// then in concurrency (fewer first).
const MeasuredCostTable::Curve* MeasuredCostTable::find_placement(CollectiveKind kind,
                                                                  Precision precision,
                                                                  const GroupPlacement& placement,
                                                                  bool& exact) const {
  const auto same = collectives_.find({kind, precision, placement});
  exact = same != collectives_.end();
  if (exact) {
    return &same->second;
  }
  const Curve* nearest = nullptr;
  std::pair<int, int> least{0, 0};
  for (const auto& [family, curve] : collectives_) {
    const auto& [of_kind, of_precision, of_placement] = family;
    if (of_kind != kind || of_precision != precision || of_placement.ranks != placement.ranks ||
        of_placement.level != placement.level ||
        of_placement.device_type != placement.device_type) {
      continue;
    }
    const std::pair distance{std::abs(of_placement.ranks_per_node - placement.ranks_per_node),
                             std::abs(of_placement.concurrent - placement.concurrent)};
    if (nearest == nullptr || distance < least) {
      nearest = &curve;
      least = distance;
    }
  }
  return nearest;
}

Estimate MeasuredCostTable::collective_time(CollectiveKind kind,
                                            Bytes payload,
                                            Precision precision,
                                            const GroupPlacement& placement) const {
  if (kind == CollectiveKind::kSlice || placement.ranks == 1) {
    return {};
  }
  bool exact = false;
  const Curve* curve = find_placement(kind, canonical(kind, precision), placement, exact);
  if (curve == nullptr) {
    missing(fmt::format("{} over {} ranks at network level {} ({})",
                        to_string(kind),
                        placement.ranks,
                        placement.level,
                        to_string(precision)));
  }
  return flagged(read_curve(*curve, payload.count), exact);
}

Estimate MeasuredCostTable::transfer_time(Bytes size, int level, int concurrent) const {
  const Curve* nearest = nullptr;
  int least = 0;
  for (const auto& [family, curve] : transfers_) {
    const int distance = std::abs(family.second - concurrent);
    if (family.first == level && (nearest == nullptr || distance < least)) {
      nearest = &curve;
      least = distance;
    }
  }
  if (nearest == nullptr) {
    missing(fmt::format("a message across network level {}", level));
  }
  return flagged(read_curve(*nearest, size.count), least == 0);
}

Estimate MeasuredCostTable::optimizer_time(std::int64_t elements,
                                           Precision precision,
                                           int device_type) const {
  const auto family = optimizer_.find({precision, device_type});
  if (family == optimizer_.end()) {
    missing(fmt::format("the optimizer in {}", to_string(precision)));
  }
  return read_curve(family->second, elements);
}

Estimate MeasuredCostTable::accumulate_time(Bytes size, int device_type) const {
  const auto family = accumulate_.find(device_type);
  if (family == accumulate_.end()) {
    missing("gradient additions");
  }
  return read_curve(family->second, size.count);
}

double MeasuredCostTable::overlap_fraction(int device_type) const {
  if (device_type < 0 || device_type >= static_cast<int>(overlap_fraction_.size())) {
    missing(fmt::format("the overlap of device type {}", device_type));
  }
  return overlap_fraction_[static_cast<std::size_t>(device_type)];
}

Estimate MeasuredCostTable::step_overhead(int ranks) const {
  if (step_overhead_.empty()) {
    missing("the overhead of a step");
  }
  return read_curve(step_overhead_, ranks);
}

Bytes MeasuredCostTable::process_memory() const { return process_memory_; }

std::string MeasuredCostTable::provenance() const { return provenance_; }

}  // namespace shardwise
