// In which order a pipeline stage runs the forward and backward passes of its micro-batches: one
// function a schedule. A schedule decides nothing else; sends, receives and waits follow from the
// order (lower.h).
#pragma once

#include <vector>

#include "graph/plan.h"

namespace shardwise {

struct StageTask {
  bool is_forward = true;
  int microbatch = 0;
  int chunk = 0;

  bool operator==(const StageTask&) const = default;
};
using StageOrder = std::vector<StageTask>;

struct PipelineShape {
  int num_stages = 1;
  int num_microbatches = 1;
  int num_chunks = 1;  // on each stage
};

// All forwards, then all backwards, both from the first micro-batch on.
StageOrder gpipe_order(const PipelineShape& shape, int stage);

// min(m, P - 1 - stage) forwards, then one forward and one backward in turn, then the rest:
// PipeDream-flush (Narayanan et al., SC'21, section 2.2.1). In flight: min(m, P - stage).
StageOrder one_forward_one_backward_order(const PipelineShape& shape, int stage);

// The same with 2 (P - 1 - stage) forwards first, so that a transfer has a whole slot of time. In
// flight: min(m, 2 (P - 1 - stage) + 1).
StageOrder eager_order(const PipelineShape& shape, int stage);

// Megatron's interleaved order (Narayanan et al., SC'21, section 2.2.2): micro-batches in groups of
// P; a group runs chunk 0, then chunk 1, ..., backward from the last chunk on;
// 2 (P - 1 - stage) + (v - 1) P chunk passes before the first backward. Requires P | m.
StageOrder interleaved_order(const PipelineShape& shape, int stage);

// The order of `schedule`. Requires 0 <= stage < P.
StageOrder stage_order(Schedule schedule, const PipelineShape& shape, int stage);

// Most chunk passes whose forward has begun and whose backward has not ended.
int most_in_flight(const StageOrder& order);

}  // namespace shardwise
