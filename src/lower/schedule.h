// In which order a pipeline stage runs the forward and backward passes of its micro-batches: one
// function a schedule. A schedule decides nothing else; sends, receives and waits follow from the
// order (lower.h).
#pragma once

#include <cstddef>
#include <vector>

#include "graph/plan.h"

namespace shardwise {

// What a task of backward does. Split: the gradient of the chunk's input, which the stage before
// waits for, and later those of the weights.
enum class BackwardPart { kWhole, kInput, kWeight };

struct StageTask {
  bool is_forward = true;
  int microbatch = 0;
  int chunk = 0;
  BackwardPart part = BackwardPart::kWhole;  // of backward tasks

  bool operator==(const StageTask&) const = default;
};
using StageOrder = std::vector<StageTask>;

// One micro-batch in one virtual stage, times in any unit.
struct PassTimes {
  double forward = 1;
  double input = 1;     // backward, gradient of the input
  double weight = 1;    // backward, gradients of the weights
  double transfer = 0;  // of the tensor behind the virtual stage, each way
  // Of the activations that forward leaves, the share that stays from the input's gradient to the
  // weights'.
  double weight_memory = 0.5;
};

struct PipelineShape {
  int num_stages = 1;
  int num_microbatches = 1;
  int num_chunks = 1;  // on each stage
  // By virtual stage; empty: the same everywhere. Only schedules that are searched look at them.
  std::vector<PassTimes> times = {};

  PassTimes times_of(int virtual_stage) const {
    return times.empty() ? PassTimes{} : times[static_cast<std::size_t>(virtual_stage)];
  }
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

// The order of `schedule`. Requires 0 <= stage < P. Other schedules than those above:
//
//   zb-h1, zb-h2        order of 1F1B, with once or twice its warm-up; the weight part of stage i
//                       follows its input part by i (2 i) micro-batches: Qi et al., ICLR'24 (Zero
//                       Bubble), section 2
//   zb-1p, zb-2p        searched for the given times with at most P (2 P) micro-batches in flight:
//                       section 3.1; our search in schedule_list.h
//   zb-v                two chunks in a V, at most P micro-batches in flight: section 6, searched
//   v-half, v-min       two chunks in a V, repeating blocks: Qi et al., NeurIPS'24 (Controllable
//                       Memory), section 3
//   dualpipe-v          two chunks in a V, forward and backward passes in pairs: DeepSeek-V3
//                       technical report, 2024, section 3.2.1, cut in half. Requires m >= 2 P
StageOrder stage_order(Schedule schedule, const PipelineShape& shape, int stage);

// Those of all stages: searched schedules are searched once.
std::vector<StageOrder> stage_orders(Schedule schedule, const PipelineShape& shape);

// Most chunk passes whose forward has begun and whose backward has not ended; with a split backward
// the input part gives back all but the share `weight_memory`, the weight part the rest.
double most_in_flight(const StageOrder& order, double weight_memory = 1);

}  // namespace shardwise
