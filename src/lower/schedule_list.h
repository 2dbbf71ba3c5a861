// List scheduling of a pipeline with a split backward: every stage takes, whenever it is free, the
// best of what it could do. Internal to lower.
//
// The rules follow the heuristic of Qi et al., ICLR'24 (Zero Bubble), section 3.1: forwards fill
// the wait for the first backward as far as memory goes; then a backward that is there goes first;
// weight parts fill gaps and give memory back when a forward needs it; what is left of them comes
// last. What the paper leaves open (how large a gap must be, how many forwards run ahead) is
// searched over a small grid, and all runs go by the given times rather than by equal ones.
#pragma once

#include <optional>
#include <vector>

#include "lower/schedule.h"

namespace shardwise::internal {

// One point of the grid.
struct ListRules {
  // A weight part goes into a gap of at least this share of its own time.
  double least_gap = 1;
  // A forward that a backward would have to wait for does not start.
  bool keeps_free_for_backward = false;
  // Chunk 0 has at most so many micro-batches in flight, by stage.
  std::vector<int> most_ahead;
  // With a forward and a backward to choose from, the forward is taken while fewer than so many
  // micro-batches of chunk 0 are in flight, by stage.
  std::vector<int> least_ahead;
  // Chunk passes that chunk 0 leaves to chunk 1, by stage.
  std::vector<double> reserve;
  // The second chunk's backwards go first until they are so far ahead of the first's.
  int backward_lead = 0;
};

struct ListSchedule {
  std::vector<StageOrder> orders;
  double longest_span = 0;  // of a stage, from its first task to its last
  double makespan = 0;
};

// Nothing if the rules end in a deadlock. `memory_limit`: most passes of a chunk in flight on a
// stage, counted as most_in_flight does.
std::optional<ListSchedule> list_schedule(const PipelineShape& shape,
                                          double memory_limit,
                                          const ListRules& rules);

}  // namespace shardwise::internal
