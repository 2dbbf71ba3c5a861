// A pipeline of single linear layers whose times are given: for tests of schedules and replays.
#pragma once

#include <string>
#include <vector>

#include "cost/cost_table.h"
#include "graph/block_builder.h"
#include "graph/plan.h"

namespace shardwise::test {

// Times of one micro-batch in one virtual stage, in picoseconds.
struct ChunkTime {
  std::int64_t forward = 1;
  std::int64_t input = 1;     // gradient of the input
  std::int64_t weight = 1;    // gradient of the weights
  std::int64_t transfer = 0;  // of the boundary behind it, each way

  std::int64_t all() const { return forward + input + weight; }
};

// Answers with the times of the linear op called "linear.k"; everything else is free.
struct ChunkTable final : CostTable {
  std::vector<ChunkTime> times;

  Estimate op_time(const Op& op,
                   std::span<const std::int64_t>,
                   Direction direction,
                   Precision,
                   int) const override {
    if (op.kind != OpKind::kLinear) {
      return {Seconds(0), false};
    }
    const ChunkTime& time = times[std::stoul(op.name.substr(op.name.find('.') + 1))];
    switch (direction) {
      case Direction::kForward:
        return picoseconds(time.forward);
      case Direction::kBackwardInput:
        return picoseconds(time.input);
      case Direction::kBackwardWeight:
        return picoseconds(time.weight);
      case Direction::kBackward:
        return picoseconds(time.input + time.weight);
    }
    return {Seconds(0), false};
  }
  Estimate collective_time(CollectiveKind, Bytes, Precision, const GroupPlacement&) const override {
    return {Seconds(0), false};
  }
  // A boundary tensor behind virtual stage k has k + 1 times kHidden elements.
  Estimate transfer_time(Bytes size, int, int) const override {
    return picoseconds(times[static_cast<std::size_t>(size.count / kRowBytes - 1)].transfer);
  }
  Estimate optimizer_time(std::int64_t, Precision, int) const override {
    return {Seconds(0), false};
  }
  Estimate accumulate_time(Bytes, int) const override { return {Seconds(0), false}; }
  double overlap_fraction(int) const override { return 1; }
  Estimate step_overhead(int) const override { return {Seconds(0), false}; }
  Bytes process_memory() const override { return Bytes(0); }
  std::string provenance() const override { return "made up for a test"; }

  static Estimate picoseconds(std::int64_t count) {
    return {to_seconds(Picoseconds(count)), false};
  }
  static constexpr std::int64_t kTokens = 4;
  static constexpr std::int64_t kRowBytes = kTokens * 4;
};

// One device for each stage on a node of its own, chunks placed as the schedule wants it.
struct PipelineModel {
  Graph graph;
  Plan plan;
  Cluster cluster;
  ChunkTable table;
};

inline PipelineModel pipeline_model(Schedule schedule,
                                    int stages,
                                    int chunks,
                                    int microbatches,
                                    const std::vector<ChunkTime>& times) {
  PipelineModel model;
  model.table.times = times;
  Graph& graph = model.graph;
  graph.microbatch = 1;
  graph.sequence = ChunkTable::kTokens;
  const int layers = stages * chunks;
  for (int k = 0; k < layers; ++k) {
    // Widths tell the boundaries apart.
    const std::string name = "linear." + std::to_string(k);
    const BlockBuilder::Axes in{{"i", std::max(k, 1), AxisSharding::kEven}};
    const BlockBuilder::Axes out{{"o", k + 1, AxisSharding::kEven}};
    BlockBuilder build("block." + std::to_string(k), 1, graph.sequence);
    const TensorIndex x =
        k == 0 ? build.embedding("tokens", build.tokens(), 8, 1, 0.02) : build.boundary_input(k);
    const TensorIndex y = build.linear(name, x, in, out, false, 0.02);
    if (k + 1 < layers) {
      build.boundary_output(y);
    } else {
      build.cross_entropy("loss", y, build.targets());
    }
    graph.blocks.push_back(std::move(build).build());
    graph.layers.push_back({name, name + ".", k});
  }
  Plan& plan = model.plan;
  plan.batch = microbatches;
  plan.sequence = graph.sequence;
  plan.num_microbatches = microbatches;
  plan.schedule = schedule;
  plan.stages.resize(static_cast<std::size_t>(stages));
  for (int s = 0; s < stages; ++s) {
    plan.stages[static_cast<std::size_t>(s)].devices = {s};
    plan.stages[static_cast<std::size_t>(s)].chunks.resize(static_cast<std::size_t>(chunks));
  }
  for (int k = 0; k < layers; ++k) {
    const VirtualStage place = virtual_stage(plan, k);
    ChunkPlan& chunk = plan.stages[static_cast<std::size_t>(place.stage)]
                           .chunks[static_cast<std::size_t>(place.chunk)];
    chunk.first_layer = k;
    LayerPlan layer;
    layer.op_axes.assign(graph.block_of(k).ops.size(), {kUnassigned, kUnassigned, kUnassigned});
    chunk.layers.push_back(layer);
  }
  Cluster& cluster = model.cluster;
  cluster.name = "test";
  DeviceType type;
  type.name = "device";
  type.memory = Bytes(1LL << 30);
  cluster.types = {type};
  cluster.groups = {{0, stages}};
  cluster.levels = {{"node", 1, BytesPerSecond(1e10), Seconds(0)},
                    {"network", stages, BytesPerSecond(1e10), Seconds(0)}};
  return model;
}

}  // namespace shardwise::test
