// How far the formulas of evaluate() were off replays of the same schedule, by schedule.
#pragma once

#include <span>

#include "graph/plan.h"

namespace shardwise {

// Least and most of formula / replay - 1 over all random pipelines of `FormulaTable`
// (src/simulate/formula_table_test.cc, docs/cost_model.md, "Replay"): 2 to 8 stages, equal and
// unequal, many and few micro-batches, free and slow transfers. A fraction, 0.01 = one per cent.
struct ReplayBand {
  Schedule schedule = Schedule::k1F1B;
  double least = 0;
  double most = 0;
};

// One for each schedule that has a formula. A test measures them anew and fails if they moved.
std::span<const ReplayBand> replay_bands();

// Requires a schedule that has a formula.
const ReplayBand& replay_band(Schedule schedule);

}  // namespace shardwise
