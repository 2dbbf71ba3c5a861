// Prices of layers and boundaries of a grid (target_grid.h), and what stages add up from them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "cost/evaluate.h"
#include "cost/stage_prices.h"
#include "planner/target_grid.h"
#include "planner/target_split.h"

namespace shardwise::planning {

// A row of layers in equal surroundings: sums of parts, so that any run of them costs nothing.
struct LayerRow {
  std::vector<std::int64_t> forward;  // [i]: layers before i
  std::vector<std::int64_t> time;     // forward, recomputation and backward
  std::vector<std::int64_t> per_step;
  std::vector<std::int64_t> state;
  std::vector<std::int64_t> saved;      // a boundary kept by both of two layers counts once
  std::vector<std::int64_t> shared;     // [i]: what is counted once between i - 1 and i
  std::vector<std::int64_t> transient;  // of a layer
  std::vector<int> block;               // of a layer
  std::vector<std::int64_t> input;
  std::vector<std::int64_t> output;
};

// How the stages of a pipeline stand and run.
struct GridPipeline {
  int start = 0;  // first device
  int num_stages = 1;
  int num_chunks = 1;
  Schedule schedule = Schedule::k1F1B;
};

class TargetPrices {
 public:
  // The graph has the plan's micro-batch. All must outlive it.
  TargetPrices(const Graph& graph,
               int num_microbatches,
               Precision precision,
               const Cluster& cluster,
               const CostTable& costs);

  // Surroundings of the stage of the mesh that begins at device `start`, as a number.
  int surroundings(const Mesh& mesh, int start);
  LayerRow row(const TargetGrid& grid,
               const std::vector<LayerPlan>& layers,
               int around,
               bool has_stages);
  // The problem of splitting the row among the stages; interleaved: embedding, the decoders of one
  // chunk, head. `may_be_stage(begin, end)`: of plain pipelines.
  SplitProblem split_problem(const TargetGrid& grid,
                             const std::vector<LayerPlan>& layers,
                             const GridPipeline& pipeline,
                             const std::function<bool(int, int)>& may_be_stage);
  // At most the step time of every split.
  std::int64_t bound(const TargetGrid& grid,
                     const std::vector<LayerPlan>& layers,
                     const GridPipeline& pipeline);
  // Layers of each chunk in the order of the model.
  std::vector<int> chunk_layers(const GridPipeline& pipeline, const std::vector<int>& counts) const;

 private:
  struct Transfer {
    std::int64_t forward = 0;
    std::int64_t both = 0;
  };

  int num_layers() const { return static_cast<int>(graph_.layers.size()); }
  const LayerRow& known_row(const TargetGrid& grid,
                            const std::vector<LayerPlan>& layers,
                            int around,
                            bool has_stages);
  internal::LayerPrice layer_price(
      const TargetGrid& grid, const LayerPlan& plan, int layer, int around, bool is_shared) const;
  Transfer transfer(const TargetGrid& grid, int from, int to);
  std::int64_t tie_time(const TargetGrid& grid,
                        const std::vector<LayerPlan>& layers,
                        const GridPipeline& pipeline) const;
  std::int64_t memory_limit(int start) const;

  const Graph& graph_;
  const int num_microbatches_;
  const Precision precision_;
  const Cluster& cluster_;
  const CostTable& costs_;
  std::map<std::pair<Mesh, int>, int> numbers_;
  std::map<internal::Surroundings, int> known_;
  std::vector<internal::Surroundings> surroundings_;
  std::map<std::tuple<Mesh, Layout, int, int>, Transfer> transfers_;
  using RowKey = std::tuple<Mesh,
                            std::array<GridRole, kMeshAxes>,
                            bool,
                            std::array<bool, kMeshAxes>,
                            StateSharding,
                            Recompute,
                            int,
                            bool>;
  std::map<RowKey, LayerRow> rows_;
};

}  // namespace shardwise::planning
