#include "planner/target_grid.h"

#include <algorithm>
#include <string>

#include "planner/space.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

bool is_tensor(GridRole role) { return role == GridRole::kTensor || role == GridRole::kQueries; }

bool has_experts(const Graph& graph) {
  return std::any_of(graph.blocks.begin(), graph.blocks.end(), [](const Block& block) {
    return std::any_of(block.ops.begin(), block.ops.end(), [](const Op& op) {
      return op.kind == OpKind::kExperts;
    });
  });
}

// Loop axis of the op that mesh axis `m` shards; -1: none.
int axis_of(const Op& op, const TargetGrid& grid, int m) {
  const GridRole role = grid.roles[at(m)];
  const bool spreads = grid.spreads_experts[at(m)] && op.kind == OpKind::kExperts;
  if (role == GridRole::kNone) {
    return kUnassigned;
  }
  if (role == GridRole::kData) {
    return axis_index(op, spreads ? "xb" : "b");
  }
  if (role == GridRole::kContext) {
    return axis_index(op, "s");
  }
  if (op.kind == OpKind::kExperts) {
    return axis_index(op, spreads ? "e" : "f");
  }
  for (const char* name : {"v", "f"}) {
    if (const int axis = axis_index(op, name); axis >= 0) {
      return axis;
    }
  }
  if (axis_index(op, "n") >= 0) {
    return axis_index(op, role == GridRole::kTensor ? "n" : "r");
  }
  return grid.sequence_parallel ? axis_index(op, "s") : kUnassigned;
}

// Two axes with one role are one axis of the product; data axes may differ in what experts do.
bool repeats_a_role(const TargetGrid& grid) {
  for (int m = 1; m < kMeshAxes; ++m) {
    const GridRole role = grid.roles[at(m)];
    if (role == GridRole::kData && grid.roles[0] == GridRole::kNone) {
      return true;
    }
    for (int other = 0; other < m; ++other) {
      if (role != GridRole::kNone && grid.roles[at(other)] == role &&
          (role != GridRole::kData ||
           grid.spreads_experts[at(other)] == grid.spreads_experts[at(m)])) {
        return true;
      }
    }
  }
  return false;
}

void choose_experts(TargetGrid grid,
                    int m,
                    bool with_experts,
                    const std::function<void(const TargetGrid&)>& visit) {
  if (m == kMeshAxes) {
    if (!repeats_a_role(grid)) {
      visit(grid);
    }
    return;
  }
  choose_experts(grid, m + 1, with_experts, visit);
  if (with_experts && (grid.roles[at(m)] == GridRole::kData || is_tensor(grid.roles[at(m)]))) {
    grid.spreads_experts[at(m)] = true;
    choose_experts(grid, m + 1, with_experts, visit);
  }
}

}  // namespace

void for_each_grid(const Graph& graph,
                   const Mesh& mesh,
                   const std::function<void(const TargetGrid&)>& visit) {
  const bool with_experts = has_experts(graph);
  const auto roles_of = [&](int m) -> std::vector<GridRole> {
    if (mesh.sizes[at(m)] == 1) {
      return {GridRole::kNone};
    }
    if (m == kDataAxis) {
      return {GridRole::kData};
    }
    return {GridRole::kTensor, GridRole::kQueries, GridRole::kContext, GridRole::kData};
  };
  for (const GridRole data : roles_of(0)) {
    for (const GridRole first : roles_of(1)) {
      for (const GridRole second : roles_of(2)) {
        TargetGrid grid;
        grid.mesh = mesh;
        grid.roles = {data, first, second};
        const bool has_tensor = is_tensor(first) || is_tensor(second);
        for (const bool shards_sequence : {false, true}) {
          if (shards_sequence && !has_tensor) {
            continue;
          }
          grid.sequence_parallel = shards_sequence;
          choose_experts(grid, 0, with_experts, visit);
        }
      }
    }
  }
}

Layout grid_boundary(const TargetGrid& grid) {
  Layout layout{};
  for (int m = 0; m < kMeshAxes; ++m) {
    const GridRole role = grid.roles[at(m)];
    if (role == GridRole::kData) {
      layout[at(m)] = AxisLayout::shard(0);
    } else if (role == GridRole::kContext || (is_tensor(role) && grid.sequence_parallel)) {
      layout[at(m)] = AxisLayout::shard(1);
    }
  }
  return layout;
}

std::optional<LayerPlan> grid_layer(const Graph& graph, int layer, const TargetGrid& grid) {
  const int last = static_cast<int>(graph.layers.size()) - 1;
  LayerPlan plan;
  for (const Op& op : graph.block_of(layer).ops) {
    AxisAssignment assignment{kUnassigned, kUnassigned, kUnassigned};
    for (int m = 0; m < kMeshAxes; ++m) {
      assignment[at(m)] = static_cast<std::int8_t>(axis_of(op, grid, m));
    }
    const int chunks = context_degree(op, assignment, grid.mesh);
    if (!is_valid_assignment(op, assignment, grid.mesh) ||
        (chunks > 1 && op.axes[at(axis_index(op, "s"))].size % (std::int64_t{2} * chunks) != 0)) {
      return std::nullopt;
    }
    plan.op_axes.push_back(assignment);
  }
  if (layer > 0) {
    plan.input_layout = grid_boundary(grid);
  }
  plan.state_sharding = grid.state;
  plan.recompute = layer > 0 && layer < last ? grid.recompute : Recompute::kNone;
  return plan;
}

Plan grid_plan(const Graph& graph,
               const TargetGrid& grid,
               const std::vector<LayerPlan>& layers,
               int start,
               int num_stages,
               const std::vector<int>& counts) {
  Plan plan;
  plan.stages.resize(at(num_stages));
  for (StagePlan& stage : plan.stages) {
    stage.mesh = grid.mesh;
    for (int i = 0; i < grid.mesh.devices(); ++i) {
      stage.devices.push_back(start++);
    }
  }
  int layer = 0;
  for (std::size_t part = 0; part < counts.size(); ++part) {
    ChunkPlan chunk;
    chunk.first_layer = layer;
    for (int i = 0; i < counts[part]; ++i, ++layer) {
      chunk.layers.push_back(layers[at(layer)]);
      const Block& block = graph.block_of(layer);
      for (std::size_t o = 0; o < block.ops.size(); ++o) {
        plan.context_chunks =
            std::max(plan.context_chunks,
                     context_degree(block.ops[o], chunk.layers.back().op_axes[o], grid.mesh));
      }
    }
    if (part + 1 < counts.size()) {
      chunk.output_layout = grid_boundary(grid);
    }
    plan.stages[part % at(num_stages)].chunks.push_back(std::move(chunk));
  }
  return plan;
}

}  // namespace shardwise::planning
