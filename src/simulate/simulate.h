// A discrete-event replay of the programs that `lower` hands to the runtime, with a cost table for
// the durations: the referee of the cost formulas (docs/cost_model.md, "Replay"). Shares no code
// with the planner.
//
// Every device has three streams. `compute` walks the program in order: kernels, gradient sums,
// updates. `collectives` carries what the program waits for (conversions, exchanges inside kernels,
// gathers) and, beside the walk, gradient reductions in program order. `point-to-point` carries the
// messages of stage boundaries and ties.
//
//   * A message moves once both ends have posted it, one at a time out of a device and one at a
//   time
//     into it. Messages that leave or enter a node together share its links, and so do messages
//     inside a node: each advances at the rate 1 / transfer_time(size, level, n), n = how many
//     there are at the moment.
//   * A collective begins when its last member comes and takes collective_time.
//   * A gradient reduction advances at the rate phi (CostTable::overlap_fraction) while one of its
//     members computes or converts, at full rate while all of them wait.
//
// Not modelled: collectives and messages that share a link, buckets over several ops, routing of
// tokens other than even, local copies.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cost/cost_table.h"
#include "lower/program.h"
#include "lower/schedule.h"

namespace shardwise {

// A device whose kernels take `factor` times as long.
struct Straggler {
  int rank = 0;
  double factor = 1;
};

// What runs beside the kernels of a rank.
struct Overlap {
  // A conversion next to a linear op (the all-gather before it, the reduce-scatter or all-reduce
  // after it) is cut into pieces that run beside the pieces of the product: it costs only what
  // exceeds (n - 1) / n phi of the product, n the ranks of the group.
  bool tensor = false;
  // Receives are posted one task ahead and sends are waited for later, as lowered. Off: a rank
  // stands while it sends, and a message goes whether or not its receive is posted, as frameworks
  // that exchange in lock-step do.
  bool pipeline = true;
  // Gradient reductions run beside the backward pass. Off: the program waits for each.
  bool data = true;
};

struct SimulationOptions {
  // Ranks whose programs and surroundings are alike are replayed once (kUse), or each (kIgnore).
  enum class Symmetry { kUse, kIgnore };
  enum class Timeline { kNone, kRecord };

  std::vector<Straggler> stragglers;
  // Every kernel takes 1 + jitter z times its time, z uniform in [-sqrt 3, sqrt 3] (so that jitter
  // is the standard deviation), drawn from seed, rank and place in the program.
  double jitter = 0;
  std::uint64_t seed = 1;
  // Kernels of micro-batch i take so many times their time: sequences of unequal length, or slices
  // of one sequence, of which later ones attend to more (TeraPipe, ICML'21). Empty: all alike.
  std::vector<double> microbatch_factors;
  // What searched schedules go by; empty: pass_times of the plan.
  std::vector<PassTimes> pass_times;
  Symmetry symmetry = Symmetry::kUse;
  Timeline timeline = Timeline::kNone;
  Overlap overlap;
};

// One rank, standing for all that are like it.
struct RankActivity {
  int rank = 0;   // the lowest of them
  int stage = 0;  // -1: idle
  int alike = 1;  // ranks that it stands for
  Picoseconds compute{0};
  Picoseconds task_compute{0};    // part of compute: kernels of the micro-batches
  Picoseconds collectives{0};     // in which the program stood or, for reductions, not
  Picoseconds point_to_point{0};  // messages sent; a message received is its sender's
  Picoseconds reductions{0};      // part of collectives that ran beside the walk
  Picoseconds first_begin{0};     // of the kernels of the micro-batches
  Picoseconds last_end{0};
  Picoseconds end{0};    // of the program
  Bytes state{0};        // weights, gradients, optimizer
  Bytes peak_memory{0};  // state and the most bytes of everything else alive at once

  // From the first kernel of a micro-batch to the last one.
  Picoseconds span() const { return last_end - first_begin; }
};

enum class Stream { kCompute, kCollectives, kPointToPoint };

// Something that a stream did. Slices of one rank and stream do not overlap, but for collectives: a
// reduction may lie beside what the program waits for.
struct Slice {
  int rank = 0;
  Stream stream = Stream::kCompute;
  bool is_reduction = false;
  Picoseconds begin{0};
  Picoseconds end{0};
  InstructionKind kind = InstructionKind::kCompute;
  CollectiveKind collective = CollectiveKind::kSlice;
  Direction direction = Direction::kForward;
  bool again = false;
  int layer = -1;
  int op = -1;
  int microbatch = -1;
  int peer = -1;  // point-to-point
  Bytes bytes{0};
};

// Bytes alive on a rank from `time` on.
struct MemorySample {
  int rank = 0;
  Picoseconds time{0};
  Bytes bytes{0};
};

struct Simulation {
  Picoseconds makespan{0};          // of the programs
  Picoseconds overhead{0};          // CostTable::step_overhead
  std::vector<RankActivity> ranks;  // those replayed, ascending
  bool extrapolated = false;        // some answer of the table was
  // If set, the programs never end: who waits for whom in a circle. Nothing else is filled then.
  std::optional<std::string> deadlock;
  // Only with Timeline::kRecord, in order of begin, rank and stream.
  std::vector<Slice> slices;
  std::vector<MemorySample> memory;

  Picoseconds step_time() const { return makespan + overhead; }
  // Share of the longest span that the busiest rank does not compute, the measure of Qi et al.,
  // ICLR'24 (Zero Bubble), section 5.1: (max span - max compute) / max span. Collectives that the
  // program waits for count as idle.
  double bubble_rate() const;
};

// Replays one step of `plan`. Requires a valid plan for `graph` (plan_violations empty),
// graph.microbatch == plan.microbatch(). Deterministic. Throws what the table throws, InputError on
// options out of range (factor <= 0, jitter outside [0, 0.5], unknown rank, factors for another
// number of micro-batches).
Simulation simulate(const Plan& plan,
                    const Graph& graph,
                    const Cluster& cluster,
                    const CostTable& costs,
                    const SimulationOptions& options = {});

// Replays programs that need not be those of `plan`; every peer must have one. No symmetry is used.
Simulation simulate_programs(std::span<const Program> programs,
                             const Plan& plan,
                             const Graph& graph,
                             const Cluster& cluster,
                             const CostTable& costs,
                             const SimulationOptions& options = {});

}  // namespace shardwise
