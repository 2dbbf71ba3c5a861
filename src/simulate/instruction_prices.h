// Durations of instructions: questions to the cost table, each asked once. Internal to simulate.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "cost/cost_table.h"
#include "lower/program.h"
#include "simulate/group_extent.h"

namespace shardwise::internal {

// Refers to all its arguments. Not thread-safe.
class InstructionPrices {
 public:
  InstructionPrices(const Plan& plan,
                    const Graph& graph,
                    const Cluster& cluster,
                    const CostTable& costs)
      : plan_(plan), graph_(graph), cluster_(cluster), costs_(costs) {}

  // A kernel of (layer, op) on a device type.
  Picoseconds kernel(const Program& program, const Instruction& instruction, int device_type);
  Picoseconds accumulation(Bytes bytes, int device_type);
  Picoseconds update(std::int64_t elements, int device_type);
  // A collective of `program`'s group; zero for an empty payload.
  Picoseconds collective(
      CollectiveKind kind, Bytes payload, Precision precision, const Program& program, int group);
  Picoseconds transfer(Bytes bytes, int level, int concurrent);
  Picoseconds step_overhead(int ranks);
  // phi of the slowest type among `types`.
  double overlap_fraction(int device_type) const { return costs_.overlap_fraction(device_type); }

  const Cluster& cluster() const { return cluster_; }
  const Graph& graph() const { return graph_; }
  bool extrapolated() const { return extrapolated_; }

 private:
  Picoseconds rounded(const Estimate& estimate);
  const GroupPlacement& placement(const Program& program, int group);

  const Plan& plan_;
  const Graph& graph_;
  const Cluster& cluster_;
  const CostTable& costs_;
  bool extrapolated_ = false;
  std::unordered_map<std::uint64_t, Picoseconds> kernels_;  // looked up only
  std::map<std::pair<std::int64_t, int>, Picoseconds> accumulations_;
  std::map<std::pair<std::int64_t, int>, Picoseconds> updates_;
  std::map<std::tuple<int, std::int64_t, int, GroupPlacement>, Picoseconds> collectives_;
  std::map<std::tuple<std::int64_t, int, int>, Picoseconds> transfers_;
  std::map<std::pair<int, unsigned>, int> concurrent_groups_;  // by stage and axes
  std::map<std::vector<int>, GroupExtent> extents_;            // by group
  int placements_rank_ = -1;                                   // whose placements are these
  std::map<int, GroupPlacement> placements_;                   // by group
};

}  // namespace shardwise::internal
