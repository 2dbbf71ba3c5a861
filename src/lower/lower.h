// A plan as one program for each rank: layer bodies (graph/layer_body.h) laid out over
// micro-batches in the order of the schedule, with the messages of stage boundaries, the exchange
// of parameter state and the update.
//
//   const std::vector<Program> programs = lower_all(plan, graph);
//   if (const auto deadlock = find_deadlock(programs)) { ... }    // lower/deadlock.h
//
// Rules that hold in every program:
//   * Receives are posted one task (forward or backward pass of a chunk) ahead of their use; weight
//     parts of a split backward receive nothing and do not count.
//   * A send is posted when its tensor is ready and waited for before the next send of the same
//     direction, with a split backward when something comes back that the receiver sent after it
//     used the message; the last ones at the end of the step: no rank waits for a receive that its
//     peer can post only later, so rendezvous sends do not deadlock.
//   * Every buffer is freed by the instruction that uses it last.
//   * Gathered parameters live from the first to the last step of their op in forward, and again
//     from the first step (recomputation included) to the last in backward.
//   * End of a step: sends, reductions, tied gradients, norm, then update and gather by op, tied
//     values.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "lower/program.h"
#include "lower/schedule.h"

namespace shardwise {

// Program of `rank`; one with an idle stage (-1) if the plan does not use it. Requires a valid plan
// for `graph` (plan_violations empty). Searched schedules (schedule.h) go by `times`, one for each
// virtual stage; all ranks must be given the same. Deterministic.
Program lower(const Plan& plan,
              const Graph& graph,
              int rank,
              const std::vector<PassTimes>& times = {});

// Programs of `ranks`, one after the other: none outlives its call of `use`. What ranks have in
// common is worked out once.
void lower_each(const Plan& plan,
                const Graph& graph,
                std::span<const int> ranks,
                const std::function<void(const Program&)>& use,
                const std::vector<PassTimes>& times = {});

// Programs of ranks 0 .. world - 1; world 0: up to the highest rank that the plan uses.
std::vector<Program> lower_all(const Plan& plan,
                               const Graph& graph,
                               int world = 0,
                               const std::vector<PassTimes>& times = {});

}  // namespace shardwise
