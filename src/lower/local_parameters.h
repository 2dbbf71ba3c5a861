// What one rank holds: its groups, its part of every parameter of its stage, its ends of ties.
// Internal to lower.
#pragma once

#include <map>

#include "lower/program.h"

namespace shardwise::internal {

// Where a rank stands in its stage.
struct RankPlace {
  int rank = 0;
  int stage = 0;
  int index_in_stage = 0;
  MeshCoordinates coordinates{0, 0, 0};
};
// stage = -1 if no stage has this rank.
RankPlace find_rank(const Plan& plan, int rank);

// Fills Program::groups and group_of_axes.
void add_groups(const StagePlan& stage, const RankPlace& place, Program& program);

// Index into Program::parameters by use; shared ties have two uses with one index.
using ParameterIndex = std::map<ParameterPlace, int>;

// Fills Program::parameters (layers in order of the stage's chunks) and Program::tied.
ParameterIndex add_parameters(const Plan& plan,
                              const Graph& graph,
                              const RankPlace& place,
                              Program& program);

// `box` of the whole tensor in local indices of a shard that starts at `shard`.
Box local_box(const Box& box, const Box& shard);

}  // namespace shardwise::internal
