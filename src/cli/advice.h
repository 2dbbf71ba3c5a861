// What `plan` says beside the plan: --target, --sensitivity, --why, the replay, and what would fit.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "advisor/sensitivity.h"
#include "cli/inputs.h"

namespace shardwise {

// Text for people and keys for --json (docs/file_formats.md).
struct Advice {
  std::string text;
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
};

// What constraints or a target cost: the plan that `find` gives without them. Key "restriction".
Advice price_of_restriction(PlanRequest request,
                            const PlanFinder& find,
                            const Problem& problem,
                            const std::string& restriction,
                            const PlanResult& restricted);

// Key "sensitivity" and "binding".
Advice sensitivity_advice(const PlanRequest& request,
                          const PlanFinder& find,
                          const Problem& problem,
                          const Evaluation& account);

// Key "why". Throws InputError for a layout that does not fit model, batch or cluster.
Advice why_advice(const std::string& layout,
                  const PlanRequest& request,
                  const Problem& problem,
                  const PlanResult& result,
                  const Evaluation& account);

// The error band of the plan's step time (advisor/replay_check.h). Key "replay".
Advice replay_advice(const Plan& plan,
                     const Evaluation& account,
                     const Graph& graph,
                     const Problem& problem);

// Key "would_fit": an array.
Advice fitting_advice(const PlanRequest& request,
                      const PlanFinder& find,
                      const Problem& problem,
                      const PlanResult& result);

}  // namespace shardwise
