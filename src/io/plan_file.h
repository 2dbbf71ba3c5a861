// Plan files: self-contained. Model configuration, cluster, the table the plan was priced with, the
// plan, what was predicted and proved, versions.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "files/json.h"
#include "graph/plan.h"
#include "io/cluster_file.h"
#include "io/plan_json.h"

namespace shardwise {

// No plan of so many micro-batches is faster: proved without the planner (check/work_bound.h).
struct CertifiedBound {
  int num_microbatches = 1;
  Picoseconds bound{0};

  bool operator==(const CertifiedBound&) const = default;
};

// What the planner said of the plan. A hand-made plan has no stop reason and no bound.
struct PlanPrediction {
  std::string method;       // "shardwise", "megatron", "layout tp=2 ..."
  std::string stop_reason;  // "optimal", "feasible", ... or empty
  Picoseconds step_time{0};
  std::optional<Picoseconds> lower_bound;
  std::vector<Bytes> stage_memory;          // total of the worst device of each stage
  std::string space;                        // what was searched
  double gap = 0;                           // within which "optimal" is proved
  std::vector<CertifiedBound> certificate;  // by number of micro-batches; empty: none written

  bool operator==(const PlanPrediction&) const = default;
};

struct PlanFile {
  std::string model_json;  // the model's whole config.json
  std::string model_type;
  LoadedCluster cluster;
  Plan plan;
  PlanPrediction prediction;
};

// Model configuration -> graph, without io knowing models: `model` is the embedded config.json.
using ModelGraphBuilder = std::function<Graph(
    const JsonValue& model, const std::string& model_type, const PlanShape& shape)>;

// The whole document. `graph` is the plan's.
nlohmann::ordered_json plan_file_to_json(const PlanFile& file, const Graph& graph);
void write_plan_file(const std::filesystem::path& path, const PlanFile& file, const Graph& graph);

// Exact round trip. Throws InputError with file, line and key for anything malformed, and for plans
// that do not fit their model.
PlanFile read_plan_file(const std::filesystem::path& path, const ModelGraphBuilder& build);
PlanFile parse_plan_file(const std::string& text,
                         const std::string& file_name,
                         const ModelGraphBuilder& build);

}  // namespace shardwise
