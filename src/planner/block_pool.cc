#include "planner/block_pool.h"

namespace shardwise::planning {

std::shared_ptr<BlockActivations> BlockPool::activations_of(int number,
                                                            const Block& block,
                                                            const StageShape& shape,
                                                            std::int64_t microbatch,
                                                            const Constraints& constraints) {
  const int data_degree = shape.mesh.sizes[kDataAxis];
  if (microbatch % data_degree != 0 || !BlockCosts::has_shareable_activations(block, constraints)) {
    return std::make_shared<BlockActivations>();
  }
  static_assert(kMeshAxes == 3 && kDataAxis == 0, "bits of the free axes");
  const ActivationKey key{number,
                          microbatch / data_degree,
                          data_degree > 1,
                          {shape.mesh.sizes[1], shape.mesh.sizes[2]},
                          shape.device_type,
                          {shape.placements[2], shape.placements[4], shape.placements[6]}};
  std::shared_ptr<BlockActivations>& known = activations_[key];
  if (known == nullptr) {
    known = std::make_shared<BlockActivations>();
    known->is_shared = true;
  }
  return known;
}

}  // namespace shardwise::planning
