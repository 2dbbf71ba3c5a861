// What stages a pipeline of one combination may have: runs of the chain's layers, their numbers of
// micro-batches in flight, and the classes of places that they may stand on.
#pragma once

#include <vector>

#include "planner/stage_search.h"

namespace shardwise::planning {

struct PipelineShape {
  Schedule schedule = Schedule::k1F1B;
  int stages = 1;
  int chunks = 1;
  TieCase tie = TieCase::kNone;
};

// Places that bounds cannot tell apart: the same devices in number and type, the same shapes.
struct PlaceClass {
  int size = 0;
  int type = 0;
  std::vector<int> shapes;

  auto operator<=>(const PlaceClass&) const = default;
};
struct PlaceClasses {
  std::vector<PlaceClass> classes;
  // [used][step of StagePlaces]: its class, or -1 where no stage can stand.
  std::vector<std::vector<int>> of_step;
};
PlaceClasses place_classes(Problem& problem);

class PipelineSpace {
 public:
  PipelineSpace(const Problem& problem, const LayerChain& chain, const PipelineShape& shape);

  bool is_interleaved() const { return shape_.schedule == Schedule::kInterleaved; }
  // Longest run [inner_begin, inner_end) of equal layers without the chain's ends.
  int inner_begin() const { return inner_begin_; }
  int inner_end() const { return inner_end_; }
  // Whole micro-batches that the stage holds at least; unless interleaved, exactly.
  int in_flight(int from_end) const;
  // Where the first run of layers equal to [begin, end) begins, if they are inner ones.
  int first_like(int begin, int end) const {
    return begin >= inner_begin_ && end <= inner_end_ ? inner_begin_ : begin;
  }
  // Equal runs of inner layers have one key, wherever they lie. `from_end`: stages behind it.
  StageKey key_of(int from_end, int stage_shape, int begin, int end) const;
  // Whether layers [begin, end) may be the stage before which `others` stages stand.
  bool is_run(int begin, int end, int others) const;

 private:
  const Problem& problem_;
  const LayerChain& chain_;
  const PipelineShape shape_;
  int inner_begin_ = 0;
  int inner_end_ = 0;
};

}  // namespace shardwise::planning
