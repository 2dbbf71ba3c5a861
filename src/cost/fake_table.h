// A cost table for tests: every time is a small whole number of picoseconds by a formula that can
// be done by hand. Header only, used by the tests of cost, planner and lower.
#pragma once

#include <string>

#include "cost/cost_table.h"

namespace shardwise {

// Set the members a test needs; the rest is zero or one.
//   op          op_launch_ps + op_ps_per_iteration * product of the local loop sizes (expert
//   exchange
//               axes aside); backward at once costs twice as much
//   collective  collective_latency_ps * (1 + level) + collective_ps_per_byte * (1 + level) *
//   payload transfer    transfer_latency_ps * (1 + level) + transfer_ps_per_byte * (1 + level) *
//   size optimizer   optimizer_ps_per_element * elements accumulate  accumulate_ps_per_byte * size
struct FakeTable final : CostTable {
  std::int64_t op_launch_ps = 0;
  std::int64_t op_ps_per_iteration = 1;
  std::int64_t collective_latency_ps = 0;
  std::int64_t collective_ps_per_byte = 1;
  std::int64_t transfer_latency_ps = 0;
  std::int64_t transfer_ps_per_byte = 1;
  std::int64_t optimizer_ps_per_element = 1;
  std::int64_t accumulate_ps_per_byte = 0;
  std::int64_t step_overhead_ps = 0;
  double overlap = 0;  // phi
  Bytes memory_of_process{0};
  Execution software;

  static Estimate picoseconds(std::int64_t count) {
    return {to_seconds(Picoseconds(count)), false};
  }

  Estimate op_time(const Op& op,
                   std::span<const std::int64_t> sizes,
                   Direction direction,
                   Precision,
                   int) const override {
    std::int64_t iterations = direction == Direction::kBackward ? 2 : 1;
    for (std::size_t a = 0; a < op.axes.size(); ++a) {
      iterations *= op.axes[a].sharding == AxisSharding::kExchange ? 1 : sizes[a];
    }
    return picoseconds(op_launch_ps + op_ps_per_iteration * iterations);
  }
  Estimate collective_time(CollectiveKind,
                           Bytes payload,
                           Precision,
                           const GroupPlacement& placement) const override {
    return picoseconds((1 + placement.level) *
                       (collective_latency_ps + collective_ps_per_byte * payload.count));
  }
  Estimate transfer_time(Bytes size, int level, int) const override {
    return picoseconds((1 + level) * (transfer_latency_ps + transfer_ps_per_byte * size.count));
  }
  Estimate optimizer_time(std::int64_t elements, Precision, int) const override {
    return picoseconds(optimizer_ps_per_element * elements);
  }
  Estimate accumulate_time(Bytes size, int) const override {
    return picoseconds(accumulate_ps_per_byte * size.count);
  }
  double overlap_fraction(int) const override { return overlap; }
  Estimate step_overhead(int) const override { return picoseconds(step_overhead_ps); }
  Bytes process_memory() const override { return memory_of_process; }
  std::string provenance() const override { return "made up for a test"; }
  const Execution& execution() const override { return software; }
};

}  // namespace shardwise
