#include "report/published_run.h"

#include <algorithm>
#include <utility>

#include "core/errors.h"
#include "report/published_graph.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Frameworks pad the vocabulary to a multiple of 64 on each tensor rank.
DecoderShape padded(const DecoderShape& shape, int tensor) {
  DecoderShape result = shape;
  const std::int64_t unit = std::int64_t{64} * tensor;
  result.vocabulary = (shape.vocabulary + unit - 1) / unit * unit;
  // Key/value heads fewer than the tensor ranks are copied.
  result.key_value_heads = std::max<std::int64_t>(shape.key_value_heads, tensor);
  return result;
}

// Decoder layers of each virtual stage; empty: even.
std::vector<int> split_of(const UniformLayout& grid, int layers) {
  const int parts = grid.pipeline * grid.chunks;
  if (parts < 2 || layers % parts == 0 || (layers + 2) % parts != 0) {
    return {};
  }
  std::vector<int> split(at(parts), (layers + 2) / parts);
  --split.front();
  --split.back();
  return split;
}

// Experts over the inner part of the data ranks, and over the tensor ranks as well where these
// share the sequence out: the mesh's data axis becomes two.
void spread_experts(Plan& plan, const Graph& graph, int inner, bool on_tensor) {
  for (StagePlan& stage : plan.stages) {
    SHARDWISE_CHECK(stage.mesh.sizes[2] == 1, "one free mesh axis is left");
    stage.mesh.sizes = {stage.mesh.sizes[0] / inner, inner, stage.mesh.sizes[1]};
    const bool has_outer = stage.mesh.sizes[0] > 1;
    const bool has_inner = inner > 1;
    const auto layout_of = [&](const Layout& layout) {
      return Layout{has_outer ? layout[0] : AxisLayout::replicate(),
                    has_inner ? layout[0] : AxisLayout::replicate(),
                    layout[1]};
    };
    for (ChunkPlan& chunk : stage.chunks) {
      chunk.output_layout = layout_of(chunk.output_layout);
      for (int k = 0; k < static_cast<int>(chunk.layers.size()); ++k) {
        LayerPlan& layer = chunk.layers[at(k)];
        layer.input_layout = layout_of(layer.input_layout);
        const Block& block = graph.block_of(chunk.first_layer + k);
        for (std::size_t o = 0; o < layer.op_axes.size(); ++o) {
          const Op& op = block.ops[o];
          const AxisAssignment old = layer.op_axes[o];
          const bool is_experts = op.kind == OpKind::kExperts;
          const auto axis = [&](const char* name) {
            return static_cast<std::int8_t>(axis_index(op, name));
          };
          constexpr auto kNone = static_cast<std::int8_t>(kUnassigned);
          layer.op_axes[o] = {has_outer ? old[0] : kNone,
                              has_inner ? (is_experts ? axis("xb") : old[0]) : kNone,
                              is_experts && on_tensor ? axis("xs") : old[1]};
        }
      }
    }
  }
}

}  // namespace

Plan run_plan(const Graph& graph, const RunLayout& layout) {
  UniformLayout grid = layout.grid;
  grid.layers = split_of(grid, static_cast<int>(graph.layers.size()) - 2);
  const bool on_tensor =
      grid.tensor > 1 && grid.sequence_parallel && grid.expert % grid.tensor == 0;
  const int inner = on_tensor ? grid.expert / grid.tensor : grid.expert;
  const bool spreads = grid.expert > 1 && grid.data % inner == 0 && grid.context == 1;
  if (spreads) {
    grid.expert = 1;
  }
  Plan plan = make_uniform_plan(graph,
                                grid,
                                layout.batch,
                                layout.sequence,
                                Precision::kBFloat16,
                                grid.world(),
                                "published run");
  if (spreads) {
    spread_experts(plan, graph, inner, on_tensor);
  }
  if (layout.repeats_every_second_layer) {
    for (StagePlan& stage : plan.stages) {
      for (ChunkPlan& chunk : stage.chunks) {
        for (std::size_t k = 0; k < chunk.layers.size(); ++k) {
          const bool is_second = (static_cast<std::size_t>(chunk.first_layer) + k) % 2 == 1;
          chunk.layers[k].recompute = is_second ? Recompute::kFull : Recompute::kNone;
        }
      }
    }
  }
  return plan;
}

Graph run_graph(const DecoderShape& shape, const RunLayout& layout) {
  return published_graph(
      padded(shape, layout.grid.tensor), layout.grid.microbatch(), layout.sequence);
}

RunModel::RunModel(const DecoderShape& shape,
                   const RunLayout& layout,
                   const Execution& execution,
                   Cluster cluster)
    : cluster_(std::move(cluster)),
      graph_(run_graph(shape, layout)),
      plan_(run_plan(graph_, layout)),
      table_(cluster_, execution),
      evaluator_(graph_, cluster_, table_) {}

Evaluation RunModel::evaluate(const ModelConstants& constants) {
  table_.set_constants(constants);
  evaluator_.price_again();
  return evaluator_.evaluate(plan_);
}

Bytes peak_memory(const Evaluation& evaluation) {
  Bytes most{0};
  for (const StageMemory& memory : evaluation.stage_memory) {
    most = std::max(most, memory.total());
  }
  return most;
}

Bytes allocated_memory(const Evaluation& evaluation) {
  Bytes most{0};
  for (const StageMemory& memory : evaluation.stage_memory) {
    most = std::max(most, memory.total() - memory.reserve);
  }
  return most;
}

}  // namespace shardwise
