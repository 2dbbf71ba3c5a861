// Time and memory of ANY plan, term by term: the only judge of a plan's cost. Shares no code with
// the planner. Every formula stands in docs/cost_model.md.
#pragma once

#include <string>
#include <vector>

#include "cost/cost_table.h"
#include "graph/layer_body.h"

namespace shardwise {

// All whole picoseconds: each table answer is rounded once (to_picoseconds), then summed.
struct StageTime {
  Picoseconds forward{0};            // op kernels of one micro-batch, all chunks
  Picoseconds recompute{0};          // kernels run again
  Picoseconds backward{0};           // additions of gradients included
  Picoseconds collectives{0};        // conversions and internal collectives, both directions
  Picoseconds state_collectives{0};  // per micro-batch: gathers (parameters), exposed
                                     // reduce-scatters (gradients, parameters)
  Picoseconds forward_total{0};      // part of p_i that is forward (gpipe needs the split)
  Picoseconds transfer{0};           // o_i: to the next virtual stage, both directions, all chunks
  Picoseconds transfer_forward{0};   // part of o_i that is forward
  Picoseconds exposed_reduction{0};  // part of s_i
  Picoseconds optimizer{0};          // part of s_i
  Picoseconds parameter_gather{0};   // part of s_i
  Picoseconds tied_exchange{0};      // part of s_i

  Picoseconds microbatch() const;  // p_i
  Picoseconds per_step() const;    // s_i
};

struct StageMemory {
  Bytes weights{0};
  Bytes gradients{0};
  Bytes optimizer{0};
  Bytes activations_per_microbatch{0};  // all chunks; shared boundaries inside a chunk once
  int in_flight = 0;                    // k_i, of interleaved passes rounded up
  Bytes activations{0};                 // of all micro-batches in flight
  Bytes transient{0};         // most that a layer needs on top, gathered parameters included
  Bytes boundary_buffers{0};  // send and receive buffers
  Bytes reserve{0};           // device reserve + process memory
  Bytes limit{0};             // device memory

  Bytes total() const;
  bool fits() const { return total() <= limit; }
};

// Payload bytes of one step, by the convention of graph/layout.h; control messages (loss, norm) and
// local copies are not counted.
struct StageTraffic {
  // What each rank of the stage hands to collectives, indexed by CollectiveKind (five).
  std::vector<std::int64_t> by_collective;
  // What each device sends: stage boundaries and tied parameters. By index in StagePlan::devices.
  std::vector<std::int64_t> sends;
  // Part of by_collective that depends on the routing of tokens: the figure of an even routing.
  std::int64_t routed = 0;
};

struct Evaluation {
  std::vector<StageTime> stage_times;
  std::vector<StageMemory> stage_memory;  // the worst device of each stage
  std::vector<StageTraffic> traffic;
  Picoseconds fill{0};        // sum of p_i and o_j; interleaved: pi + ceil((P - 1) pi / v)
  Picoseconds steady{0};      // (m - 1) * period
  Picoseconds period{0};      // pi
  Picoseconds per_step{0};    // max s_i
  Picoseconds overhead{0};    // step_overhead
  Picoseconds step_time{0};   // fill + steady + per_step + overhead
  bool extrapolated = false;  // some table answer was

  bool fits() const;
};

// Requires a valid plan for `graph` (plan_violations empty), graph.microbatch == plan.microbatch().
// Deterministic. Throws InputError for a schedule without a formula (ScheduleTraits), and what the
// table throws. Many plans of one graph: cost/evaluator.h.
Evaluation evaluate(const Plan& plan,
                    const Graph& graph,
                    const Cluster& cluster,
                    const CostTable& costs);

// k_i: micro-batches whose activations a stage (from 0) holds at the same time. Interleaved: the
// most chunks in flight in Megatron's order (Narayanan et al., SC'21, section 2.2.2), in whole
// micro-batches, rounded up.
int microbatches_in_flight(
    Schedule schedule, int num_stages, int stage, int num_microbatches, int num_chunks);

}  // namespace shardwise
