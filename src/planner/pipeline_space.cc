#include "planner/pipeline_space.h"

#include <algorithm>
#include <map>

#include "cost/evaluate.h"
#include "cost/stage_prices.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

PlaceClasses place_classes(Problem& problem) {
  const int limit = problem.max_stage_devices();
  const StagePlaces& places = problem.places();
  PlaceClasses all;
  std::map<PlaceClass, int> numbers;
  std::map<StagePlace, int> known;  // by name; -1: no stage
  for (int used = 0; used < places.num_states(); ++used) {
    all.of_step.emplace_back();
    for (const StagePlaces::Step& step : places.steps(used)) {
      const auto [entry, is_new] = known.try_emplace(places.name_of(step.place), -1);
      const std::vector<int>& shapes = problem.shapes_at(step.place);
      if (is_new && !shapes.empty() && (limit == 0 || step.place.size <= limit)) {
        const PlaceClass place{step.place.size, step.place.type, shapes};
        const auto [number, is_first] =
            numbers.try_emplace(place, static_cast<int>(all.classes.size()));
        entry->second = number->second;
        if (is_first) {
          all.classes.push_back(place);
        }
      }
      all.of_step.back().push_back(entry->second);
    }
  }
  return all;
}

PipelineSpace::PipelineSpace(const Problem& problem,
                             const LayerChain& chain,
                             const PipelineShape& shape)
    : problem_(problem), chain_(chain), shape_(shape) {
  inner_begin_ = std::min(1, chain_.size() - 1);
  inner_end_ = inner_begin_;
  for (int i = 1, first = 1; i + 1 < chain_.size(); ++i) {
    if (problem_.block_of(chain_.layers[at(i)]) != problem_.block_of(chain_.layers[at(first)])) {
      first = i;
    }
    if (i + 1 - first > inner_end_ - inner_begin_) {
      inner_begin_ = first;
      inner_end_ = i + 1;
    }
  }
}

int PipelineSpace::in_flight(int from_end) const {
  if (is_interleaved()) {
    const int passes = internal::interleaved_passes_in_flight(
        shape_.stages, shape_.stages - 1 - from_end, problem_.num_microbatches(), shape_.chunks);
    return std::max(passes / shape_.chunks, 1);
  }
  return microbatches_in_flight(shape_.schedule,
                                shape_.stages,
                                shape_.stages - 1 - from_end,
                                problem_.num_microbatches(),
                                shape_.chunks);
}

StageKey PipelineSpace::key_of(int from_end, int stage_shape, int begin, int end) const {
  StageKey key;
  key.shape = stage_shape;
  key.begin = first_like(begin, end);
  key.end = key.begin + end - begin;
  key.in_flight = in_flight(from_end);
  key.stages = is_interleaved() ? shape_.stages : 0;
  key.stage = is_interleaved() ? shape_.stages - 1 - from_end : 0;
  return key;
}

bool PipelineSpace::is_run(int begin, int end, int others) const {
  if (begin >= end || (others == 0 && begin != 0)) {
    return false;
  }
  if (!is_interleaved()) {
    return problem_.may_be_stage(begin, end);
  }
  // Every chunk of a folded stage has a decoder layer; embedding and head never stand alone.
  const int decoders = std::min(end, chain_.size() - 1) - std::max(begin, 1);
  const int before = std::max(begin, 1) - 1;  // decoders left for the others
  return decoders >= 1 && before >= others;
}

}  // namespace shardwise::planning
