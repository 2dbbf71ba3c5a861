// Method `uniap`: its mixed integer quadratic programme, linearised for HiGHS, and the same optimum
// by our exact search.
//
// A graph of layers u with strategies k on the devices of one stage; P equal stages, c
// micro-batches with GPipe memory. For a placement and strategies, with A_u(k) time of a
// micro-batch, R_uv and R'_uv resharding on an edge inside a stage and between neighbours, M_u(k)
// memory of the whole step:
//
//   minimise   sum_i p_i + sum_j o_j + (c - 1) max(p_1, ..., p_P, o_1, ..., o_P-1)
//   p_i      = sum over layers of stage i of A_u(k_u) + sum over its edges of R_uv(k_u, k_v)
//   o_j      = sum over edges from stage j to j + 1 of R'_uv(k_u, k_v)
//   memory     sum over layers of stage i of M_u(k_u) <= m
//   order      edges lead to the same or a later stage, every stage has a layer
//
// Source: Lin, Wu, Li, Li, Li, "UniAP", CVPR 2025, section 3.2. Changed: placement and strategy are
// one choice Y_u(i, k), so that everything but the edges is linear; an edge is a flow from Y_u to
// Y_v. Its order constraint (contiguous sets) follows from edges that lead forward. Edges over more
// than one stage cost nothing, as there.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "core/units.h"
#include "planner/listed_problem.h"
#include "planner/planner.h"

namespace shardwise {

struct UniapStrategy {
  Picoseconds time{0};  // A
  Bytes memory{0};      // M

  bool operator==(const UniapStrategy&) const = default;
};

struct UniapEdge {
  int source = 0;
  int target = 0;
  std::vector<std::vector<Picoseconds>> same_stage;  // R [strategy of source][of target]
  std::vector<std::vector<Picoseconds>> next_stage;  // R'
};

// Whether layers may choose strategies and stages together, or one of the two is taken away: the
// paper's ablations. Inter-only: one strategy for all layers (by number). Intra-only: one stage.
enum class UniapSpace { kJoint, kInterOnly, kIntraOnly };

struct UniapProblem {
  std::vector<std::vector<UniapStrategy>> layers;  // in an order in which edges lead forward
  std::vector<UniapEdge> edges;
  int stages = 1;
  int microbatches = 1;
  Bytes memory{0};
  UniapSpace space = UniapSpace::kJoint;
};

struct UniapPlan {
  std::vector<int> stage;     // of each layer
  std::vector<int> strategy;  // of each layer
};

struct UniapResult {
  StopReason stop_reason = StopReason::kInfeasible;
  std::optional<UniapPlan> plan;
  Picoseconds step_time{0};  // by evaluate_uniap; read only if plan is set
  Picoseconds lower_bound{0};
};

// Whether this build has HiGHS.
bool has_highs();

// The programme, solved by HiGHS with one thread to gap 0. Throws InputError for a malformed
// problem or a build without HiGHS.
UniapResult solve_uniap_milp(const UniapProblem& problem, Seconds time_limit = Seconds(600));

// The same optimum by find_listed_plan; cut short by `limits`, the best plan so far. Requires a
// chain: edges (u, u + 1) and no others; throws InputError else.
UniapResult solve_uniap_exactly(const UniapProblem& problem, const ListedLimits& limits = {});

// Objective of a plan, or nothing if it is none or does not fit.
std::optional<Picoseconds> evaluate_uniap(const UniapProblem& problem, const UniapPlan& plan);

}  // namespace shardwise
