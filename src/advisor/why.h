// A layout of the user's own against the best plan, term by term.
#pragma once

#include <string>
#include <vector>

#include "cost/evaluate.h"
#include "planner/planner.h"

namespace shardwise {

// One term of the step time, in both plans.
struct TermPair {
  std::string name;
  Picoseconds best{0};
  Picoseconds other{0};
};

// Terms of the stage that sets the period, times m micro-batches, then what comes once; they sum to
// the step time:
//
//   step = m (kernels + collectives + transfers of that stage + waits) + fill + once a step
//
// waits: what the schedule's period is longer (gpipe, 1f1b-eager) or shorter than that stage; fill:
// the other stages' share of the first micro-batch. Letters: docs/cost_model.md, "Step time".
std::vector<TermPair> compare_terms(const Plan& best,
                                    const Evaluation& best_account,
                                    const Plan& other,
                                    const Evaluation& other_account);

struct MemoryPair {
  std::string name;
  Bytes best{0};
  Bytes other{0};
};
// Parts of the memory of the stage with least room, in both plans; they sum to "total".
std::vector<MemoryPair> compare_memory(const Evaluation& best, const Evaluation& other);

}  // namespace shardwise
