#include "runtime/rank_groups.h"

#include <algorithm>
#include <numeric>

#include "core/errors.h"

namespace shardwise {
namespace {

constexpr unsigned kAxisSets = 1U << kMeshAxes;

// Whether all axes of the set are longer than one.
bool is_real(const Mesh& mesh, unsigned axes) {
  for (unsigned m = 0; m < kMeshAxes; ++m) {
    if ((axes >> m & 1U) != 0 && mesh.sizes[m] == 1) {
      return false;
    }
  }
  return true;
}

// Ranks of the stage that differ from its device `index` on `axes` only, in mesh order.
std::vector<int> members(const StagePlan& stage, int index, unsigned axes) {
  const MeshCoordinates here = coordinates_of(stage.mesh, index);
  std::vector<int> ranks;
  for (int other = 0; other < stage.mesh.devices(); ++other) {
    const MeshCoordinates there = coordinates_of(stage.mesh, other);
    bool is_member = true;
    for (unsigned m = 0; m < kMeshAxes; ++m) {
      is_member = is_member && ((axes >> m & 1U) != 0 || here[m] == there[m]);
    }
    if (is_member) {
      ranks.push_back(stage.devices[static_cast<std::size_t>(other)]);
    }
  }
  return ranks;
}

}  // namespace

RankGroups::RankGroups(const Plan& plan, const Program& program, Communicator& communicator)
    : program_(program) {
  std::vector<int> everyone(static_cast<std::size_t>(communicator.size()));
  std::iota(everyone.begin(), everyone.end(), 0);
  world_ = communicator.make_group(everyone);
  for (int s = 0; s < plan.num_stages(); ++s) {
    make_stage_groups(plan.stages[static_cast<std::size_t>(s)], s == program.stage, communicator);
  }
  SHARDWISE_CHECK(compute_.size() == program.groups.size(), "groups of another plan");
}

void RankGroups::make_stage_groups(const StagePlan& stage,
                                   bool is_own,
                                   Communicator& communicator) {
  for (unsigned axes = 1; axes < kAxisSets; ++axes) {
    if (!is_real(stage.mesh, axes)) {
      continue;
    }
    for (int index = 0; index < stage.mesh.devices(); ++index) {
      const std::vector<int> ranks = members(stage, index, axes);
      if (ranks.front() != stage.devices[static_cast<std::size_t>(index)]) {
        continue;  // made by its first member
      }
      auto for_compute = communicator.make_group(ranks);
      auto for_communication = communicator.make_group(ranks);
      if (for_compute != nullptr) {
        SHARDWISE_CHECK(is_own && compute_.size() < program_.groups.size() &&
                            program_.groups[compute_.size()] == ranks,
                        "groups of another plan");
        compute_.push_back(std::move(for_compute));
        communication_.push_back(std::move(for_communication));
      }
    }
  }
}

CommunicationGroup& RankGroups::of_compute(int group) const {
  return *compute_[static_cast<std::size_t>(group)];
}

CommunicationGroup& RankGroups::of_communication(int group) const {
  return *communication_[static_cast<std::size_t>(group)];
}

CommunicationGroup* RankGroups::along(int mesh_axis) const {
  const int group = program_.group_of_axes[std::size_t{1} << mesh_axis];
  return group < 0 ? nullptr : compute_[static_cast<std::size_t>(group)].get();
}

}  // namespace shardwise
