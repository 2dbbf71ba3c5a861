// A small model, clusters and plans whose costs can be done by hand. For tests of cost only.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/block_builder.h"
#include "graph/cluster.h"
#include "graph/plan.h"

namespace shardwise::test {

inline constexpr std::int64_t kSequence = 8;
inline constexpr std::int64_t kWidth = 16;
inline constexpr std::int64_t kVocabulary = 32;

// Embedding (512 parameters), `layers` times h + down(gelu(up(norm(h)))) (32 + 1088 + 1040 = 2160),
// head: norm (32), linear (512), loss.
inline Graph small_model(std::int64_t microbatch, int layers, bool is_tied = false) {
  const BlockBuilder::Axes h{{"h", kWidth, AxisSharding::kEven}};
  const BlockBuilder::Axes f{{"f", 4 * kWidth, AxisSharding::kEven}};
  const BlockBuilder::Axes v{{"v", kVocabulary, AxisSharding::kPadded}};
  Graph graph;
  graph.microbatch = microbatch;
  graph.sequence = kSequence;
  {
    BlockBuilder build("embedding", microbatch, kSequence);
    build.boundary_output(build.embedding("tokens", build.tokens(), kVocabulary, kWidth, 0.02));
    graph.blocks.push_back(std::move(build).build());
  }
  {
    BlockBuilder build("half", microbatch, kSequence);
    const TensorIndex x = build.boundary_input(kWidth);
    TensorIndex y = build.layer_norm("norm", x, 1e-5);
    y = build.linear("up", y, h, f, true, 0.02);
    y = build.activation("act", y, "gelu");
    y = build.linear("down", y, f, h, true, 0.02);
    build.boundary_output(build.add("residual", x, y));
    graph.blocks.push_back(std::move(build).build());
  }
  {
    BlockBuilder build("head", microbatch, kSequence);
    const TensorIndex x = build.layer_norm("norm", build.boundary_input(kWidth), 1e-5);
    build.cross_entropy("loss", build.linear("head", x, h, v, false, 0.02), build.targets());
    graph.blocks.push_back(std::move(build).build());
  }
  graph.layers.push_back({"embedding", "embedding.", 0});
  for (int i = 0; i < layers; ++i) {
    const std::string name = "layer." + std::to_string(i);
    graph.layers.push_back({name, name + ".", 1});
  }
  graph.layers.push_back({"head", "head.", 2});
  if (is_tied) {
    const TensorIndex owner = graph.blocks[0].ops[0].parameters[0].tensor;
    const TensorIndex alias = graph.blocks[2].ops[1].parameters[0].tensor;
    graph.tied.push_back({0, owner, layers + 1, alias});
  }
  return graph;
}

inline std::int8_t axis(const Op& op, const std::string& name) {
  return static_cast<std::int8_t>(axis_index(op, name));
}

// Every op: data axis on b; free axes idle.
inline LayerPlan plain_layer(const Block& block, const Mesh& mesh) {
  LayerPlan plan;
  for (const Op& op : block.ops) {
    AxisAssignment assignment{kUnassigned, kUnassigned, kUnassigned};
    if (mesh.sizes[kDataAxis] > 1) {
      assignment[kDataAxis] = axis(op, "b");
    }
    plan.op_axes.push_back(assignment);
  }
  if (mesh.sizes[kDataAxis] > 1) {
    plan.input_layout[kDataAxis] = AxisLayout::shard(0);
  }
  return plan;
}

// Stages of layers [cuts[i], cuts[i + 1]) on devices in order, all on meshes of the same shape.
inline Plan staged_plan(const Graph& graph,
                        std::int64_t batch,
                        int microbatches,
                        const Mesh& mesh,
                        const std::vector<int>& cuts,
                        int chunks = 1) {
  Plan plan;
  plan.batch = batch;
  plan.sequence = graph.sequence;
  plan.num_microbatches = microbatches;
  plan.schedule = chunks > 1 ? Schedule::kInterleaved : Schedule::k1F1B;
  const int virtual_stages = static_cast<int>(cuts.size()) - 1;
  const int stages = virtual_stages / chunks;
  plan.stages.resize(static_cast<std::size_t>(stages));
  int device = 0;
  for (StagePlan& stage : plan.stages) {
    stage.mesh = mesh;
    for (int i = 0; i < mesh.devices(); ++i) {
      stage.devices.push_back(device++);
    }
  }
  for (int virtual_stage = 0; virtual_stage < virtual_stages; ++virtual_stage) {
    ChunkPlan chunk;
    chunk.first_layer = cuts[static_cast<std::size_t>(virtual_stage)];
    for (int layer = chunk.first_layer; layer < cuts[static_cast<std::size_t>(virtual_stage) + 1];
         ++layer) {
      chunk.layers.push_back(plain_layer(graph.block_of(layer), mesh));
    }
    chunk.output_layout = chunk.layers.front().input_layout;
    plan.stages[static_cast<std::size_t>(virtual_stage % stages)].chunks.push_back(chunk);
  }
  return plan;
}

// `nodes` nodes of `size` devices.
inline Cluster small_cluster(int nodes, int size) {
  Cluster cluster;
  cluster.name = "test";
  DeviceType type;
  type.name = "device";
  type.memory = Bytes(1 << 20);
  type.reserve = Bytes(1000);
  type.peak_fp32 = FlopsPerSecond(1e12);
  type.peak_bf16 = FlopsPerSecond(2e12);
  type.memory_bandwidth = BytesPerSecond(1e11);
  cluster.types = {type};
  cluster.groups = {{0, nodes * size}};
  cluster.levels = {{"node", size, BytesPerSecond(1e10), Seconds(1e-6)},
                    {"network", nodes, BytesPerSecond(1e9), Seconds(1e-5)}};
  return cluster;
}

}  // namespace shardwise::test
