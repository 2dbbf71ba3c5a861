// A plan as JSON: names instead of indices, equal neighbouring layers written once.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "files/json.h"
#include "graph/plan.h"

namespace shardwise {

// `graph` is the plan's (for names of ops and axes). Requires a valid plan.
nlohmann::ordered_json plan_to_json(const Plan& plan, const Graph& graph);

// Batch, micro-batches and sequence alone: what a caller needs to build the graph.
struct PlanShape {
  std::int64_t microbatch = 1;
  std::int64_t sequence = 1;
};
PlanShape plan_shape_from_json(const JsonValue& value);

// Throws InputError with the place for anything that plan_to_json would not have written for
// `graph`, and for everything that plan_violations finds.
Plan plan_from_json(const JsonValue& value, const Graph& graph);

}  // namespace shardwise
