// How far the first stages of a pipeline can reach if no stage takes longer than a given time: what
// it leaves out need not be looked at.
//
// reach(j, used): the largest layer e such that stages j .. P - 1 from the end can hold the layers
// [0, e) on devices not yet used, each stage within the time. A stage that begins at b <= e' ends
// at most at max { e : some b' <= e' has bound(b', e) <= time }, so a dynamic programme over stages
// keeps only the farthest end of each (stage, used devices), and bounds need not be monotone.
#pragma once

#include <vector>

#include "planner/pipeline_space.h"

namespace shardwise::planning {

class PipelineReach {
 public:
  PipelineReach(Problem& problem,
                StageSearch& stages,
                const PipelineSpace& space,
                const PipelineShape& shape,
                const PlaceClasses& places,
                double step_weight,
                double most);

  // `from_end` up to P: the stages from there to the first one.
  int reach(int from_end, int used) const {
    return reach_[static_cast<std::size_t>(from_end)][static_cast<std::size_t>(used)];
  }
  // Longest run of inner layers within the time on a class of places.
  int longest_inner(int from_end, int place_class) const {
    return longest_[static_cast<std::size_t>(from_end)][static_cast<std::size_t>(place_class)];
  }

 private:
  bool fits(int from_end, int place_class, int begin, int end);
  // [b]: farthest end of a stage that begins at b or before.
  std::vector<int> farthest(int from_end, int place_class);

  Problem& problem_;
  StageSearch& stages_;
  const PipelineSpace& space_;
  const PipelineShape shape_;
  const PlaceClasses& places_;
  const int num_layers_;
  const double step_weight_;
  const double most_;
  std::vector<std::vector<int>> reach_;    // [from_end][used]; -1: nothing can stand there
  std::vector<std::vector<int>> longest_;  // [from_end][class]
};

}  // namespace shardwise::planning
