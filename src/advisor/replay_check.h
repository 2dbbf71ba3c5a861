// The formulas' step time of a plan against a replay of its programs.
#pragma once

#include <cstdint>
#include <optional>

#include "cost/evaluate.h"
#include "cost/replay_band.h"
#include "simulate/simulate.h"

namespace shardwise {

// Passes of a layer that are replayed at most without being asked: well below a second.
inline constexpr std::int64_t kMostLayerPasses = 20'000;

// What a replay of `plan` walks through: m * layers, for one device of each stage.
std::int64_t layer_passes(const Plan& plan);

struct ReplayCheck {
  Picoseconds formula{0};               // of a step, by evaluate()
  std::optional<Picoseconds> replayed;  // of a step; nothing: too many passes, or a deadlock
  std::optional<std::string> deadlock;  // who waits for whom, if the programs never end
  ReplayBand band;                      // random pipelines under the plan's schedule

  // formula / replay - 1. Requires `replayed`.
  double off() const { return formula / *replayed - 1; }
};

// Replays `plan` (simulate.h) unless it has more than `most_passes`. Requires a valid plan for
// `graph` under a schedule that has a formula, and its own `evaluation`. Throws what the table
// throws.
ReplayCheck check_against_replay(const Plan& plan,
                                 const Evaluation& evaluation,
                                 const Graph& graph,
                                 const Cluster& cluster,
                                 const CostTable& costs,
                                 std::int64_t most_passes = kMostLayerPasses);

}  // namespace shardwise
