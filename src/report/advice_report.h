// What the advisor found, for people: what a restriction costs, what changes of the cluster would
// bring, a layout against the best plan.
#pragma once

#include <string>
#include <vector>

#include "advisor/sensitivity.h"
#include "advisor/why.h"

namespace shardwise {

// Rows = changes: step time planned again, share of the step saved, proof; then what binds.
std::string sensitivity_table(const std::vector<Sensitivity>& changes,
                              Picoseconds step_time,
                              const BindingConstraint& binding,
                              const Evaluation& plan);

// One sentence: "binding: memory of stage 0 (...)".
std::string binding_text(const BindingConstraint& binding, const Evaluation& plan);

// "a single change that would fit: ...", one line each; empty if there is none.
std::string fitting_text(const std::vector<FittingChange>& changes);

// Terms of the step and parts of the memory, best plan and layout side by side.
std::string why_table(const std::string& layout,
                      const std::vector<TermPair>& terms,
                      const std::vector<MemoryPair>& memory);

}  // namespace shardwise
