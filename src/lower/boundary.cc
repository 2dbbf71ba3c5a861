#include "lower/boundary.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

const StagePlan& stage_at(const Plan& plan, int k) {
  return plan.stages[at(virtual_stage(plan, k).stage)];
}

const ChunkPlan& chunk_at(const Plan& plan, int k) {
  return stage_at(plan, k).chunks[at(virtual_stage(plan, k).chunk)];
}

bool includes(const StagePlan& stage, int rank) {
  return std::find(stage.devices.begin(), stage.devices.end(), rank) != stage.devices.end();
}

// What `rank` holds of the tensor; `placement` has the rank.
Box box_of(const std::vector<std::int64_t>& shape, const TensorPlacement& placement, int rank) {
  const auto found = std::find(placement.devices.begin(), placement.devices.end(), rank);
  const int index = static_cast<int>(found - placement.devices.begin());
  return shard_box(shape, placement.layout, placement.mesh, coordinates_of(placement.mesh, index));
}

// Picks the messages of `rank` out of a redistribution.
class PassageMaker {
 public:
  PassageMaker(const std::vector<std::int64_t>& shape, std::int64_t element, int rank)
      : shape_(shape), element_(element), rank_(rank) {}

  Passage make(const std::vector<RedistributionMessage>& messages,
               const TensorPlacement& sender,
               const TensorPlacement& receiver) const {
    Passage passage;
    std::map<std::pair<int, int>, int> between;
    for (const RedistributionMessage& message : messages) {
      const bool sends = message.from_device == rank_;
      const bool receives = message.to_device == rank_;
      if (!sends && !receives) {
        continue;
      }
      const int number = between[{message.from_device, message.to_device}]++;
      if (sends) {
        (receives ? passage.copies_from : passage.sends)
            .push_back(end_of(message, message.to_device, number, sender));
      }
      if (receives) {
        (sends ? passage.copies_to : passage.receives)
            .push_back(end_of(message, message.from_device, number, receiver));
      }
    }
    return passage;
  }

 private:
  BoundaryMessage end_of(const RedistributionMessage& message,
                         int peer,
                         int number,
                         const TensorPlacement& here) const {
    return {peer,
            number,
            local_box(message.global_box, box_of(shape_, here, rank_)),
            Bytes(message.global_box.elements() * element_)};
  }

  const std::vector<std::int64_t>& shape_;
  const std::int64_t element_;
  const int rank_;
};

}  // namespace

const BoundaryMessages::Crossing& BoundaryMessages::crossing(int k) {
  if (const auto known = crossings_.find(k); known != crossings_.end()) {
    return known->second;
  }
  const StagePlan& from = stage_at(plan_, k);
  const StagePlan& to = stage_at(plan_, k + 1);
  const ChunkPlan& sends = chunk_at(plan_, k);
  const ChunkPlan& receives = chunk_at(plan_, k + 1);
  const Block& block = graph_.block_of(sends.end_layer() - 1);
  SHARDWISE_CHECK(block.outputs.size() == 1, "a boundary carries one tensor");
  const Tensor& tensor = block.tensors[at(block.outputs[0])];
  Crossing crossing;
  crossing.shape = tensor.shape;
  crossing.element = element_bytes(tensor.type, plan_.precision);
  crossing.sender = {sends.output_layout, from.mesh, from.devices};
  crossing.receiver = {receives.layers.front().input_layout, to.mesh, to.devices};
  crossing.forward = redistribution(crossing.shape, crossing.sender, crossing.receiver);
  crossing.backward = redistribution(crossing.shape, crossing.receiver, crossing.sender);
  return crossings_.emplace(k, std::move(crossing)).first->second;
}

std::vector<Boundary> BoundaryMessages::boundaries_of(int rank) {
  const int stages = plan_.num_stages();
  std::vector<Boundary> boundaries(at(stages * plan_.num_chunks() - 1));
  for (int k = 0; k < static_cast<int>(boundaries.size()); ++k) {
    const StagePlan& from = stage_at(plan_, k);
    const StagePlan& to = stage_at(plan_, k + 1);
    if (!includes(from, rank) && !includes(to, rank)) {
      continue;
    }
    const Crossing& across = crossing(k);
    Boundary& boundary = boundaries[at(k)];
    boundary.stays = &from == &to && across.sender.layout == across.receiver.layout;
    if (!boundary.stays) {
      const PassageMaker maker(across.shape, across.element, rank);
      boundary.forward = maker.make(across.forward, across.sender, across.receiver);
      boundary.backward = maker.make(across.backward, across.receiver, across.sender);
    }
  }
  return boundaries;
}

}  // namespace shardwise::internal
