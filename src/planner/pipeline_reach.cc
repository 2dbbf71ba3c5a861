#include "planner/pipeline_reach.h"

#include <algorithm>
#include <map>

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

PipelineReach::PipelineReach(Problem& problem,
                             StageSearch& stages,
                             const PipelineSpace& space,
                             const PipelineShape& shape,
                             const PlaceClasses& places,
                             double step_weight,
                             double most)
    : problem_(problem),
      stages_(stages),
      space_(space),
      shape_(shape),
      places_(places),
      num_layers_(stages.chain().size()),
      step_weight_(step_weight),
      most_(most) {
  const int states = problem.places().num_states();
  const int classes = static_cast<int>(places.classes.size());
  reach_.assign(at(shape.stages) + 1, std::vector<int>(at(states), 0));
  longest_.resize(at(shape.stages));
  std::map<int, std::vector<std::vector<int>>> inner;  // [in flight][class]: they are alike
  for (int j = shape.stages - 1; j >= 0; --j) {
    std::vector<std::vector<int>> ends;
    const auto known = inner.find(space.in_flight(j));
    if (j > 0 && known != inner.end()) {
      ends = known->second;
      longest_[at(j)] = longest_[at(j + 1)];
    } else {
      for (int c = 0; c < classes; ++c) {
        ends.push_back(farthest(j, c));
      }
      if (j > 0 && j + 1 < shape.stages && !space.is_interleaved()) {
        inner.clear();
        inner[space.in_flight(j)] = ends;
      }
    }
    for (int used = 0; used < states; ++used) {
      int best = -1;
      const std::vector<StagePlaces::Step>& steps = problem.places().steps(used);
      for (std::size_t s = 0; s < steps.size(); ++s) {
        const int place_class = places.of_step[at(used)][s];
        const int before = reach_[at(j) + 1][at(steps[s].used)];
        if (place_class >= 0 && before >= 0) {
          best = std::max(best, ends[at(place_class)][at(before)]);
        }
      }
      reach_[at(j)][at(used)] = best;
    }
  }
}

bool PipelineReach::fits(int from_end, int place_class, int begin, int end) {
  for (const int shape : places_.classes[at(place_class)].shapes) {
    if (stages_.bound(space_.key_of(from_end, shape, begin, end), step_weight_) <= most_) {
      return true;
    }
  }
  return false;
}

std::vector<int> PipelineReach::farthest(int from_end, int place_class) {
  problem_.deadline().check();
  const int inner_begin = space_.inner_begin();
  const int inner_end = space_.inner_end();
  int longest = inner_end - inner_begin;
  while (longest > 0 && !fits(from_end, place_class, inner_begin, inner_begin + longest)) {
    --longest;
  }
  longest_[at(from_end)].push_back(longest);
  std::vector<int> ends;
  int best = -1;
  for (int begin = 0; begin <= num_layers_; ++begin) {
    const bool is_inner = begin >= inner_begin && begin < inner_end;
    if (is_inner && longest > 0) {
      best = std::max(best, std::min(begin + longest, inner_end));
    }
    for (int end = num_layers_; end > std::max(begin, best); --end) {
      if (is_inner && end <= inner_end) {
        break;
      }
      if (fits(from_end, place_class, begin, end)) {
        best = end;
      }
    }
    ends.push_back(best);
  }
  return ends;
}

}  // namespace shardwise::planning
