// A simulated step for people.
#pragma once

#include <string>
#include <vector>

#include "advisor/refine.h"
#include "advisor/replay_check.h"
#include "cost/evaluate.h"
#include "simulate/simulate.h"

namespace shardwise {

// Rows = stages (the rank that ends last of each): busy time by stream, idle share, peak memory.
std::string simulation_table(const Simulation& simulation);

// "the formula says 12.3 ms, the replay 12.1 ms (-1.6 %)".
std::string formula_line(const Simulation& simulation, const Evaluation& evaluation);

// The error band of a plan's step time: "the schedule replayed: 12.1 ms, formula +1.6 % (...)", or
// the band of random pipelines alone where the plan was not replayed.
std::string replay_line(const ReplayCheck& check);

// Rows = candidates under schedules, best first, as refine() orders them.
std::string refined_table(const std::vector<RefinedPlan>& refined);

}  // namespace shardwise
