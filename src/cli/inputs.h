// Flags that several commands share, and what they load.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cost/evaluate.h"
#include "io/cluster_file.h"
#include "io/plan_file.h"
#include "models/model.h"
#include "planner/uniform_layout.h"

namespace shardwise {

// What to train and where.
struct ProblemFlags {
  std::string model;
  std::string model_type;  // for files without model_type
  std::string cluster;
  std::int64_t batch = 0;
  std::int64_t sequence = 0;
  std::string precision;  // empty: the cluster's own
};

inline constexpr std::int64_t kMostSequences = std::int64_t{1} << 30;  // of a batch
inline constexpr std::int64_t kMostTokens = std::int64_t{1} << 30;     // of a sequence

// Refuses NaN and infinity, which CLI11's ranges let pass.
CLI::Validator finite_number();

// MODEL, --model-type, --batch, --sequence, --precision; CLUSTER too if it is positional.
enum class ClusterArgument { kNone, kPositional };
void add_problem_flags(CLI::App& command, ProblemFlags& flags, ClusterArgument cluster);
void add_precision_flag(CLI::App& command, std::string& precision, ClusterArgument cluster);

struct Problem {
  ModelConfig model;
  LoadedCluster cluster;
  std::int64_t batch = 1;
  std::int64_t sequence = 1;
  Precision precision = Precision::kFloat32;

  GraphBuilder graph_builder() const;
};

// Reads model and cluster; warnings (dropout counts as 0, ...) go to stderr. Throws InputError.
Problem load_problem(const ProblemFlags& flags);
// The same for the model alone; an empty `model_type` means the file's own.
ModelConfig load_model(const std::string& path, const std::string& model_type);
// bf16 where every device has matrix units for it: at least twice its rate in fp32. Else fp32.
Precision own_precision(const Cluster& cluster);
// What --precision says, or the cluster's own.
Precision chosen_precision(const std::string& flag, const Cluster& cluster);
// "fp32" or "bf16". Throws InputError at `where` (the flag or key) for anything else.
Precision parse_precision(const std::string& text, const std::string& where);

// A plan file, its model, and that model's graph at the plan's micro-batch and sequence.
struct LoadedPlan {
  PlanFile file;
  ModelConfig model;
  Graph graph;
};
// Throws InputError for what read_plan_file and the model's reader refuse.
LoadedPlan load_plan(const std::string& path);
// By the cost formulas; nothing for schedules that can only be replayed.
std::optional<Evaluation> formula_evaluation(const LoadedPlan& loaded);

// What is written as a plan file: the problem, the plan, and what is promised of it. `prediction`
// says method, proof and space; its step time and memory are taken from `evaluation`.
PlanFile make_plan_file(const Problem& problem,
                        const Plan& plan,
                        const Evaluation& evaluation,
                        PlanPrediction prediction);

// The stable keys of --json (docs/file_formats.md): step_time_s, tokens_per_s, times, memory, ...
nlohmann::ordered_json account_json(const Plan& plan, const Evaluation& evaluation);

}  // namespace shardwise
