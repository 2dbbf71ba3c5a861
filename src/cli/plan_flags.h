// The flags of shardwise plan, and the request that they make.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/inputs.h"
#include "planner/planner.h"

namespace shardwise {

struct PlanFlags {
  ProblemFlags problem;
  std::string output;
  std::string method = "shardwise";
  std::string target;
  std::string why;
  bool sensitivity = false;
  std::vector<std::string> schedules;
  std::vector<int> microbatch_counts;
  std::vector<std::string> pins;
  std::vector<std::string> forbids;
  int free_axes = 2;
  std::string stage_sizes = "auto";
  double gap = 0;
  double time_limit_s = 20;  // 0: none
  int threads = 0;
  int refine = 0;
  bool json = false;
};

// Adds them all; `flags` must outlive the command.
void add_plan_flags(CLI::App& command, PlanFlags& flags);

// Throws InputError for flags that contradict each other.
void check_plan_flags(const PlanFlags& flags);

// What is to be found, without stop and progress. Throws InputError for constraints that cannot be
// read or contradict each other.
PlanRequest make_plan_request(const PlanFlags& flags, const Problem& problem);

}  // namespace shardwise
