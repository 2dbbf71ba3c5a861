// Alpa's two problems on tables: the choice of shardings inside a stage, and the cut into stages.
//
// Source: Zheng et al., "Alpa", OSDI 2022, sections 4.2 (integer programme) and 5.2 (dynamic
// programme). Left out: its early stopping by gaps of 1e-6 and its pruning before profiling, which
// could miss the optimum.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/units.h"
#include "planner/planner.h"

namespace shardwise {

// Operators with strategies, and resharding between them:
//
//   minimise   sum_v c_v(s_v) + sum_(u,v) R_uv(s_u, s_v)
//   memory     for each moment t: sum over operators alive at t of m_v(s_v) <= limit, if there is
//   one
struct AlpaOperators {
  std::vector<std::vector<Picoseconds>> cost;  // [operator][strategy]
  struct Edge {
    int source = 0;
    int target = 0;
    std::vector<std::vector<Picoseconds>> reshard;  // [strategy of source][of target]
  };
  std::vector<Edge> edges;
  std::vector<std::vector<Bytes>> memory;  // [operator][strategy]; empty: no memory rows
  std::vector<std::vector<int>> alive;     // operators of each moment
  std::optional<Bytes> memory_limit;
};

struct AlpaShardings {
  StopReason stop_reason = StopReason::kInfeasible;
  std::vector<int> strategies;  // of each operator; empty if none was found
  Picoseconds cost{0};
};

// The integer programme, by HiGHS (planner/milp.h). Throws InputError for malformed operators or a
// build without HiGHS.
AlpaShardings solve_alpa_shardings(const AlpaOperators& operators,
                                   Seconds time_limit = Seconds(600));

// Cost of given strategies, or nothing if a moment needs more than the limit.
std::optional<Picoseconds> evaluate_alpa_shardings(const AlpaOperators& operators,
                                                   const std::vector<int>& strategies);

// One way to run a run of layers on a submesh.
struct AlpaStageOption {
  Picoseconds time{0};      // of a micro-batch
  int most_successors = 0;  // stages that may follow before activations in flight overflow memory
};

// Layers, submeshes and B micro-batches:
//
//   minimise sum_i t_i + (B - 1) max_i t_i    over cuts, submeshes and options
//
// so that the submeshes use exactly all devices and stage i has at most its option's successors.
struct AlpaStageProblem {
  int layers = 1;
  int devices = 1;
  int microbatches = 1;
  std::vector<int> submeshes;  // devices of each
  // [first layer][end layer - first - 1][submesh]: options, possibly none
  std::vector<std::vector<std::vector<std::vector<AlpaStageOption>>>> options;
};

struct AlpaStage {
  int first_layer = 0;
  int end_layer = 0;
  int submesh = 0;
  int option = 0;
};

struct AlpaStagePlan {
  std::vector<AlpaStage> stages;  // first to last
  Picoseconds step_time{0};
};

// The dynamic programme: for each possible longest stage, the least sum of stage times. Nothing if
// no cut is possible. Deterministic.
std::optional<AlpaStagePlan> find_alpa_stages(const AlpaStageProblem& problem);

}  // namespace shardwise
