// A plan as one self-contained HTML page: no network, light and dark, printable.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cost/evaluate.h"
#include "simulate/simulate.h"

namespace shardwise {

// What a page shows of one plan. Refers to all its parts.
struct ReportedPlan {
  std::string name;  // file or method
  std::string model;
  std::string proof;  // how the plan was found and what was proved; may be empty
  const Plan& plan;
  const Graph& graph;
  const Cluster& cluster;
  const Simulation& simulation;                 // with a timeline
  const std::optional<Evaluation>& evaluation;  // schedules without a formula have none
  std::string provenance;                       // of the times
};

// Layer strip, timeline by stage, memory against limits, time by stream, formula against replay.
// With several plans: a table that compares them, then each. Every number stands in the page as
// text.
std::string html_report(const std::vector<ReportedPlan>& plans);

}  // namespace shardwise
