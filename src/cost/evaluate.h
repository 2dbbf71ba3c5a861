// Time and memory of ANY plan, term by term: the only judge of a plan's cost (DESIGN section 4,
// docs/cost_model.md). Shares no code with the planner.
#pragma once

#include <string>
#include <vector>

#include "cost/cost_table.h"
#include "graph/layer_body.h"

namespace shardwise {

// All whole picoseconds: each table answer is rounded once (to_picoseconds), then summed.
struct StageTime {
  Picoseconds forward{0};    // op kernels of one micro-batch, all chunks
  Picoseconds recompute{0};  // kernels run again
  Picoseconds backward{0};
  Picoseconds collectives{0};        // conversions and internal collectives, both directions
  Picoseconds state_collectives{0};  // per micro-batch: gathers (parameters), reduce-scatters
  Picoseconds forward_total{0};      // part of p_i that is forward (gpipe needs the split)
  Picoseconds transfer{0};           // o_i: to the next virtual stage, both directions, all chunks
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
  Bytes activations_per_microbatch{0};
  int in_flight = 0;          // k_i
  Bytes transient{0};         // largest temporary, gathered parameters included
  Bytes boundary_buffers{0};  // send and receive buffers
  Bytes reserve{0};           // device reserve + process memory
  Bytes limit{0};             // device memory

  Bytes total() const;
  bool fits() const { return total() <= limit; }
};

struct Evaluation {
  std::vector<StageTime> stage_times;
  std::vector<StageMemory> stage_memory;  // the worst device of each stage
  Picoseconds fill{0};                    // sum of p_i and o_j
  Picoseconds steady{0};                  // (m - 1) * period
  Picoseconds period{0};
  Picoseconds per_step{0};   // max s_i
  Picoseconds overhead{0};   // step_overhead
  Picoseconds step_time{0};  // fill + steady + per_step + overhead
  // Payload bytes that one rank of each stage hands to collectives in a step, by kind, and to
  // sends.
  struct Traffic {
    std::vector<std::int64_t> by_collective;  // indexed by CollectiveKind
    std::int64_t sends = 0;
  };
  std::vector<Traffic> traffic;
  bool extrapolated = false;  // some table answer was
  bool fits() const;
};

// Requires a valid plan for `graph` (plan_violations empty), graph.microbatch == plan.microbatch().
Evaluation evaluate(const Plan& plan,
                    const Graph& graph,
                    const Cluster& cluster,
                    const CostTable& costs);

// k_i: micro-batches whose activations a stage holds at the same time (DESIGN section 4;
// interleaved: counted from the schedule's own order, in chunks' worth, rounded up to whole
// micro-batches).
int microbatches_in_flight(
    Schedule schedule, int num_stages, int stage, int num_microbatches, int num_chunks);

}  // namespace shardwise
