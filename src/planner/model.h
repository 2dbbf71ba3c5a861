// One micro-batch size of a request: its graph, and what the search asks again and again, kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "graph/redistribution.h"
#include "planner/block_pool.h"
#include "planner/option_search.h"
#include "planner/problem.h"

namespace shardwise::planning {

class MicrobatchModel final : public Problem {
 public:
  // Throws InputError for a graph with more than one tie, or one between inner layers.
  MicrobatchModel(const PlanRequest& request,
                  const Cluster& cluster,
                  const CostTable& costs,
                  const StagePlaces& places,
                  BlockPool& pool,
                  const Deadline& deadline,
                  int num_microbatches);

  const PlanRequest& request() const { return request_; }
  const Cluster& cluster() const { return cluster_; }
  const CostTable& costs() const { return costs_; }
  const Graph& graph() const { return graph_; }
  std::vector<int> devices_at(const StagePlace& place) const;
  const StageShape& shape(int number) const { return *shapes_[static_cast<std::size_t>(number)]; }
  const BlockCosts& block_costs(int shape, int block);
  // Modes of a layer. `ignores_memory`: those that could be fastest if memory were free, for
  // recomputation only costs time.
  std::vector<Mode> modes(int layer, TieCase tie, bool ignores_memory) const;
  // The plan that a search found.
  Plan plan_of(const PipelineSolution& solution);

  const Deadline& deadline() const override { return deadline_; }
  int num_microbatches() const override { return num_microbatches_; }
  int num_layers() const override { return static_cast<int>(graph_.layers.size()); }
  int block_of(int layer) const override {
    return graph_.layers[static_cast<std::size_t>(layer)].block;
  }
  bool is_tied() const override { return !graph_.tied.empty(); }
  const StagePlaces& places() const override { return places_; }
  bool may_interleave() const override;
  bool may_be_stage(int begin, int end) const override;
  int max_stage_devices() const override { return request_.limits.max_stage_devices; }
  const std::vector<int>& shapes_at(const StagePlace& place) override;
  std::int64_t memory_limit(int shape) const override;  // device memory - reserve - process
  bool frees_behind() const override { return true; }
  BlockOptions& options(int shape, int layer, TieCase tie) override;
  Transfer transfer(int layer, const StageEnd& sender, const StageEnd& receiver) override;
  std::int64_t tie_exchange(const StageEnd& owner,
                            const Option& owner_option,
                            const StageEnd& alias,
                            const Option& alias_option) override;
  std::int64_t step_overhead(int ranks) override;
  std::int64_t least_overhead(int used) override;

 private:
  std::int64_t messages_time(const std::vector<std::int64_t>& shape,
                             std::int64_t element,
                             const TensorPlacement& from,
                             const TensorPlacement& to) const;
  TensorPlacement placement_of_tied(const StageEnd& end, int layer, const Option& option);
  // Layout of what `layer` hands on, on the stage of either end.
  const Layout& boundary_layout(int layer, const StageEnd& end);
  StagePlan stage_plan(const StageSolution& solution, int chunks, Plan& plan);
  // Places that differ by where they are only: one name for them if nothing can tell them apart.
  std::pair<StagePlace, StagePlace> names_of(const StagePlace& a, const StagePlace& b) const;
  TiedPlace tied_place(int layer) const;

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const StagePlaces& places_;
  BlockPool& pool_;
  const Deadline& deadline_;
  const int num_microbatches_;
  std::vector<Constraints> constraints_;  // of each block of graph_
  const Graph graph_;   // layers with different constraints have blocks of their own
  const bool is_free_;  // of constraints
  std::vector<std::unique_ptr<StageShape>> shapes_;
  std::map<StageShape, int> shape_numbers_;
  std::map<StagePlace, std::vector<int>> shapes_at_;
  std::map<std::pair<int, int>, std::unique_ptr<BlockCosts>> block_costs_;
  std::map<std::tuple<int, int, TieCase>, std::unique_ptr<BlockOptions>> options_;
  using TransferKey = std::tuple<StagePlace, Mesh, Layout, StagePlace, Mesh, Layout>;
  using Shape = std::vector<std::int64_t>;
  std::map<std::pair<Shape, TransferKey>, Transfer> transfers_;
  std::map<TransferKey, std::int64_t> exchanges_;
  std::map<int, std::int64_t> overheads_;
  std::vector<std::int64_t> least_overheads_;  // of up to so many ranks
};

}  // namespace shardwise::planning
