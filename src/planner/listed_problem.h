// A planning problem spelled out: layers with lists of options, costs between them, devices. For
// costs that do not come from a graph: imported profiles, published instances, random tests.
//
//   ListedProblem problem;
//   problem.types = {{"a100", 8, Bytes(40'000'000'000)}};
//   problem.meshes = {{0, 4, "tp 2 dp 2"}, ...};
//   problem.options = {{{option, option}, ...}, ...};   // [block][mesh]
//   problem.layers = {0, 1, 1, 1, 2};                   // block of each layer
//   const ListedResult result = find_listed_plan(problem);
//
// The planner splits the layers into stages of consecutive layers, gives each stage a mesh of a
// device type that still has devices left (of a type, any devices: only their number counts), and
// each layer one option listed for its block on that mesh. Objective and memory: docs/cost_model.md
// ("Step time of a plan", "Memory of a plan"), with
//
//   p_i        = sum of forward + backward of its options and of the reshards between them
//   o_j        = crossing from stage j to j + 1, forward + backward
//   s_i        = sum of per_step of its options
//   memory_i   = sum of state + k_i * sum of activations + most transient  <=  type's memory
//   step time  = sum_i p_i + sum_j o_j + (m - 1) * period + max_i s_i + overhead
//
// where period and the number k_i of micro-batches in flight are those of the schedule (DESIGN
// section 4): 1f1b max_i (p_i + o_i), min(m, P - i + 1); 1f1b-eager max(max p, max o),
// min(m, 2 (P - i) + 1); gpipe max of forward parts + max of backward parts, m; stages from 1.
// A memory account that fits none of these goes into `state`, with activations 0.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/units.h"
#include "graph/plan.h"
#include "planner/planner.h"

namespace shardwise {

// One way to run a layer on a mesh. `input` and `output` name the layouts at its ends: any numbers
// from 0 that reshard() and crossing() understand; they should be few and dense.
struct ListedOption {
  Picoseconds forward{0};   // of one micro-batch, with everything that is not a boundary's
  Picoseconds backward{0};  // of one micro-batch, recomputation and per-micro-batch reductions too
  Picoseconds per_step{0};  // reductions and updates, once a step
  Bytes state{0};           // weights, gradients, optimizer
  Bytes activations{0};     // of one micro-batch, held until its backward
  Bytes transient{0};       // on top while the layer runs; the most of a stage counts
  int input = 0;
  int output = 0;
};

// A group of devices that may run a stage, and how it is arranged.
struct ListedMesh {
  int type = 0;  // index into ListedProblem::types
  int devices = 1;
  std::string name;  // for people
};

struct ListedType {
  std::string name;
  int devices = 1;  // how many there are
  Bytes memory{0};  // of one device, for the plan: what is reserved already taken off
};

// Moving the activation at a boundary, both ways.
struct ListedMove {
  Picoseconds forward{0};
  Picoseconds backward{0};
};

struct ListedProblem {
  std::vector<ListedType> types;
  std::vector<ListedMesh> meshes;
  std::vector<int> layers;                                      // block of each layer
  std::vector<std::vector<std::vector<ListedOption>>> options;  // [block][mesh]; may be empty

  // Inside a stage on `mesh`, between a layer of `block` that ends in `output` and the next layer
  // that starts in `input`; nothing: not allowed. Null: free if output == input, else not allowed.
  std::function<std::optional<ListedMove>(int block, int mesh, int output, int input)> reshard;
  // Between a stage on `sender` whose last layer, of `block`, ends in `output`, and the next stage
  // on `receiver` whose first layer starts in `input`; nothing: not allowed. Null: free and always
  // allowed. Both are pure: they may be asked once for several layers.
  std::function<std::optional<ListedMove>(
      int block, int sender, int output, int receiver, int input)>
      crossing;

  int num_microbatches = 1;
  std::vector<Schedule> schedules = {Schedule::k1F1B};  // not kInterleaved
  int min_stages = 1;
  int max_stages = 0;       // 0: no limit
  Picoseconds overhead{0};  // of a step, whatever the plan
};

struct ListedStage {
  int mesh = 0;
  int first_layer = 0;
  std::vector<int> options;  // for each layer: index into ListedProblem::options[block][mesh]
};

struct ListedPlan {
  Schedule schedule = Schedule::k1F1B;
  std::vector<ListedStage> stages;  // first to last
};

struct ListedResult {
  StopReason stop_reason = StopReason::kInfeasible;
  std::optional<ListedPlan> plan;  // set iff kOptimal or kFeasible
  Picoseconds step_time{0};        // read only if plan is set
  Picoseconds lower_bound{0};      // proved: no plan is faster
};

struct ListedLimits {
  double gap = 0;  // stop when proved within this relative gap
  Seconds time_limit{1e9};
  const std::atomic<bool>* stop = nullptr;
};

// The fastest plan that fits, by the search that find_plan uses. Exact and deterministic. Throws
// InputError for numbers below zero, indices out of range, more than 4,000 options of a block on a
// mesh or more than 250 layouts. Thread-safe.
ListedResult find_listed_plan(const ListedProblem& problem, const ListedLimits& limits = {});

// Step time and memory of each stage of a plan by the formulas above: the oracle of
// find_listed_plan, with which it shares no code. Throws InputError if `plan` is no plan of the
// problem.
struct ListedEvaluation {
  Picoseconds step_time{0};
  std::vector<Bytes> stage_memory;
  bool fits = true;  // memory, and no more devices than there are
};
ListedEvaluation evaluate_listed(const ListedPlan& plan, const ListedProblem& problem);

}  // namespace shardwise
