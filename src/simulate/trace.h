// A timeline for Perfetto (ui.perfetto.dev) and chrome://tracing.
#pragma once

#include <string>

#include "simulate/simulate.h"

namespace shardwise {

// JSON of the Trace Event Format: one process for each stage; in it, for every replayed rank, the
// threads compute, collectives, reductions and point-to-point, and a counter of its memory. Slices
// are complete events with layer, op, micro-batch, bytes and peer as arguments; times in
// microseconds. Slices of one thread do not overlap, and their durations add up to the busy times
// of RankActivity. Requires a simulation with a timeline (SimulationOptions::Timeline::kRecord).
std::string to_trace_json(const Simulation& simulation, const Graph& graph);

// What a slice is called: "forward attention.q", "all-gather", "send".
std::string slice_name(const Slice& slice, const Graph& graph);

}  // namespace shardwise
