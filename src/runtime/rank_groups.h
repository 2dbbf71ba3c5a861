// The groups of a rank: along the mesh axes of its stage, for both threads, and of all ranks.
#pragma once

#include <memory>
#include <vector>

#include "graph/plan.h"
#include "lower/program.h"
#include "runtime/communicator.h"

namespace shardwise {

// Every group exists twice: the compute thread and the communication thread never share one.
class RankGroups {
 public:
  // Called by all ranks of the job, those without a stage included. Checks that the plan's groups
  // are those of the program.
  RankGroups(const Plan& plan, const Program& program, Communicator& communicator);

  // `group`: index into Program::groups.
  CommunicationGroup& of_compute(int group) const;
  CommunicationGroup& of_communication(int group) const;
  // This rank's group along one mesh axis, for the compute thread; nullptr if it is alone there.
  CommunicationGroup* along(int mesh_axis) const;
  CommunicationGroup& world() const { return *world_; }

 private:
  using Groups = std::vector<std::unique_ptr<CommunicationGroup>>;

  void make_stage_groups(const StagePlan& stage, bool is_own, Communicator& communicator);

  const Program& program_;
  std::unique_ptr<CommunicationGroup> world_;
  Groups compute_;
  Groups communication_;
};

}  // namespace shardwise
