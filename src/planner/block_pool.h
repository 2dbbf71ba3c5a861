// What the blocks of one search share, over shapes and micro-batch counts.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>

#include "planner/block_costs.h"
#include "planner/elimination.h"

namespace shardwise::planning {

// For one request: blocks of the same number are the same but for the micro-batch.
class BlockPool {
 public:
  // Of block `number`: the one that equal shapes share, or a new one.
  std::shared_ptr<BlockActivations> activations_of(int number,
                                                   const Block& block,
                                                   const StageShape& shape,
                                                   std::int64_t microbatch,
                                                   const Constraints& constraints);
  EliminationPool& eliminations() { return eliminations_; }

 private:
  struct ActivationKey {
    int block = 0;
    std::int64_t sequences = 0;  // of the micro-batch, on each shard of the data axis
    bool has_data_axis = false;
    std::array<int, kMeshAxes - 1> free_axes{};
    int device_type = 0;
    std::array<GroupPlacement, 3> placements;  // along each free axis and both

    auto operator<=>(const ActivationKey&) const = default;
  };

  EliminationPool eliminations_;
  std::map<ActivationKey, std::shared_ptr<BlockActivations>> activations_;
};

}  // namespace shardwise::planning
