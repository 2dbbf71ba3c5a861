#include "simulate/instruction_prices.h"

#include "core/errors.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

unsigned axes_of_group(const Program& program, int group) {
  for (unsigned axes = 1; axes < program.group_of_axes.size(); ++axes) {
    if (program.group_of_axes[axes] == group) {
      return axes;
    }
  }
  SHARDWISE_CHECK(false, "a group lies along mesh axes");
}

}  // namespace

Picoseconds InstructionPrices::rounded(const Estimate& estimate) {
  extrapolated_ |= estimate.extrapolated;
  return to_picoseconds(estimate.time);
}

Picoseconds InstructionPrices::kernel(const Program& program,
                                      const Instruction& instruction,
                                      int device_type) {
  const std::uint64_t key = ((static_cast<std::uint64_t>(instruction.layer) << 20 |
                              static_cast<std::uint64_t>(instruction.op))
                                 << 8 |
                             static_cast<std::uint64_t>(device_type))
                                << 2 |
                            static_cast<std::uint64_t>(instruction.direction);
  const auto [entry, is_new] = kernels_.try_emplace(key);
  if (is_new) {
    const Op& op = graph_.block_of(instruction.layer).ops[at(instruction.op)];
    const LayerPlan& layer = layer_plan(plan_, place_of(plan_, instruction.layer));
    entry->second = rounded(
        costs_.op_time(op,
                       local_axis_sizes(op, layer.op_axes[at(instruction.op)], program.mesh),
                       instruction.direction,
                       program.precision,
                       device_type));
  }
  return entry->second;
}

Picoseconds InstructionPrices::accumulation(Bytes bytes, int device_type) {
  const auto [entry, is_new] = accumulations_.try_emplace({bytes.count, device_type});
  if (is_new) {
    entry->second = rounded(costs_.accumulate_time(bytes, device_type));
  }
  return entry->second;
}

Picoseconds InstructionPrices::update(std::int64_t elements, int device_type) {
  const auto [entry, is_new] = updates_.try_emplace({elements, device_type});
  if (is_new) {
    entry->second = rounded(costs_.optimizer_time(elements, plan_.precision, device_type));
  }
  return entry->second;
}

Picoseconds InstructionPrices::collective(
    CollectiveKind kind, Bytes payload, Precision precision, const Program& program, int group) {
  if (payload.count == 0) {
    return Picoseconds(0);
  }
  const GroupPlacement& where = placement(program, group);
  const auto [entry, is_new] = collectives_.try_emplace(
      {static_cast<int>(kind), payload.count, static_cast<int>(precision), where});
  if (is_new) {
    entry->second = rounded(costs_.collective_time(kind, payload, precision, where));
  }
  return entry->second;
}

Picoseconds InstructionPrices::transfer(Bytes bytes, int level, int concurrent) {
  const auto [entry, is_new] = transfers_.try_emplace({bytes.count, level, concurrent});
  if (is_new) {
    entry->second = rounded(costs_.transfer_time(bytes, level, concurrent));
  }
  return entry->second;
}

Picoseconds InstructionPrices::step_overhead(int ranks) {
  return rounded(costs_.step_overhead(ranks));
}

const GroupPlacement& InstructionPrices::placement(const Program& program, int group) {
  if (placements_rank_ != program.rank) {
    placements_rank_ = program.rank;
    placements_.clear();
  }
  const auto [entry, is_new] = placements_.try_emplace(group);
  if (!is_new) {
    return entry->second;
  }
  const std::vector<int>& ranks = program.groups[at(group)];
  const StagePlan& stage = plan_.stages[at(program.stage)];
  const unsigned axes = axes_of_group(program, group);
  const auto [concurrent, is_unknown] = concurrent_groups_.try_emplace({program.stage, axes});
  if (is_unknown) {
    concurrent->second = placement_of(cluster_, stage.devices, stage.mesh, axes).concurrent;
  }
  const auto [extent, is_unseen] = extents_.try_emplace(ranks);
  if (is_unseen) {
    extent->second = extent_of(cluster_, ranks);
  }
  GroupPlacement& where = entry->second;
  where.ranks = static_cast<int>(ranks.size());
  where.level = extent->second.level;
  where.ranks_per_node = extent->second.ranks_per_node;
  where.concurrent = concurrent->second;
  where.device_type = cluster_.type_of(stage.devices.front());
  return where;
}

}  // namespace shardwise::internal
