// One micro-batch size of a request: its graph, and what the search asks again and again, kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "graph/redistribution.h"
#include "planner/block_costs.h"
#include "planner/deadline.h"
#include "planner/option_search.h"

namespace shardwise::planning {

// How embedding and head hold one parameter (graph/tied.h). kNone: nothing is tied.
enum class TieCase { kNone, kShared, kExchanged };

// Where a stage runs: devices [start, start + size) of a type's list (devices_by_type).
struct StagePlace {
  int type = 0;
  int start = 0;
  int size = 0;

  auto operator<=>(const StagePlace&) const = default;
};

// Which devices are taken, as one number: the last ones of each type's list. Stages are placed from
// the last to the first, each right before those that are taken (space.h: places_for).
class StagePlaces {
 public:
  struct Step {
    StagePlace place;
    int used = 0;  // afterwards
  };

  explicit StagePlaces(const Cluster& cluster);
  const std::vector<std::vector<int>>& devices() const { return devices_; }  // by type
  int num_states() const { return static_cast<int>(steps_.size()); }         // state 0: none taken
  const std::vector<Step>& steps(int used) const { return steps_[static_cast<std::size_t>(used)]; }
  int num_used(int used) const { return num_used_[static_cast<std::size_t>(used)]; }
  int num_free(int used) const { return num_devices_ - num_used(used); }

 private:
  int num_devices_ = 0;
  std::vector<std::vector<int>> devices_;
  std::vector<std::vector<Step>> steps_;
  std::vector<int> num_used_;
};

class MicrobatchModel {
 public:
  // Throws InputError for a graph with more than one tie, or one between inner layers.
  MicrobatchModel(const PlanRequest& request,
                  const Cluster& cluster,
                  const CostTable& costs,
                  const StagePlaces& places,
                  const Deadline& deadline,
                  int num_microbatches);

  const PlanRequest& request() const { return request_; }
  const Cluster& cluster() const { return cluster_; }
  const CostTable& costs() const { return costs_; }
  const Deadline& deadline() const { return deadline_; }
  const Graph& graph() const { return graph_; }
  int num_microbatches() const { return num_microbatches_; }
  int num_layers() const { return static_cast<int>(graph_.layers.size()); }
  int block_of(int layer) const { return graph_.layers[static_cast<std::size_t>(layer)].block; }
  bool is_tied() const { return !graph_.tied.empty(); }
  const StagePlaces& places() const { return places_; }
  std::vector<int> devices_at(const StagePlace& place) const;

  // Meshes a stage may have there, as numbers of shapes; equal shapes have equal numbers.
  const std::vector<int>& shapes_at(const StagePlace& place);
  const StageShape& shape(int number) const { return *shapes_[static_cast<std::size_t>(number)]; }
  const BlockCosts& block_costs(int shape, int block);
  std::int64_t memory_limit(int shape) const;  // device memory - reserve - process
  std::int64_t device_memory(int shape) const;

  // Modes of a layer. `ignores_memory`: those that could be fastest if memory were free, for
  // recomputation only costs time.
  std::vector<Mode> modes(int layer, TieCase tie, bool ignores_memory) const;

  // Time from one stage's output layout to the next one's input layout, forward and backward.
  struct Transfer {
    std::int64_t forward = 0;
    std::int64_t backward = 0;
  };
  const Transfer& transfer(const StagePlace& sender,
                           int sender_shape,
                           const Layout& output,
                           const StagePlace& receiver,
                           int receiver_shape,
                           const Layout& input);
  // What an exchanged tie adds to the per-step part of both stages.
  std::int64_t tie_exchange(const StagePlace& owner,
                            int owner_shape,
                            const Option& owner_option,
                            const StagePlace& alias,
                            int alias_shape,
                            const Option& alias_option);
  std::int64_t step_overhead(int ranks);

 private:
  std::int64_t messages_time(const std::vector<std::int64_t>& shape,
                             std::int64_t element,
                             const TensorPlacement& from,
                             const TensorPlacement& to) const;
  TensorPlacement placement_of_tied(const StagePlace& place,
                                    int shape,
                                    int layer,
                                    const Option& option);
  // Places that differ by where they are only: one name for them if nothing can tell them apart.
  std::pair<StagePlace, StagePlace> names_of(const StagePlace& a, const StagePlace& b) const;
  TiedPlace tied_place(int layer) const;

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const StagePlaces& places_;
  const Deadline& deadline_;
  const int num_microbatches_;
  const Graph graph_;
  std::vector<std::unique_ptr<StageShape>> shapes_;
  std::map<StageShape, int> shape_numbers_;
  std::map<StagePlace, std::vector<int>> shapes_at_;
  std::map<std::pair<int, int>, std::unique_ptr<BlockCosts>> block_costs_;
  using TransferKey = std::tuple<StagePlace, Mesh, Layout, StagePlace, Mesh, Layout>;
  std::map<TransferKey, Transfer> transfers_;
  std::map<TransferKey, std::int64_t> exchanges_;
  std::map<int, std::int64_t> overheads_;
};

}  // namespace shardwise::planning
