#include "cli/plan_flags.h"

#include <fmt/format.h>

#include <cstdlib>

#include "core/errors.h"
#include "planner/methods/registry.h"

namespace shardwise {

namespace {

std::vector<Schedule> parse_schedules(const std::vector<std::string>& names) {
  std::vector<Schedule> schedules;
  for (const std::string& name : names) {
    for (const Schedule schedule :
         {Schedule::kGpipe, Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kInterleaved}) {
      if (name == to_string(schedule)) {
        schedules.push_back(schedule);
      }
    }
  }
  return schedules;
}

// "1%" -> "0.01"; anything else as it is.
std::string share_of_percent(const std::string& text) {
  if (text.empty() || text.back() != '%') {
    return text;
  }
  char* end = nullptr;
  const double percent = std::strtod(text.c_str(), &end);
  return end == text.c_str() + text.size() - 1 ? fmt::format("{}", percent / 100) : text;
}

}  // namespace

void check_plan_flags(const PlanFlags& flags) {
  if (flags.target.empty()) {
    return;
  }
  if (flags.method != "shardwise") {
    throw InputError("flags --target and --method",
                     fmt::format("expected one of them, found both; --target searches exactly, "
                                 "drop --method {}",
                                 flags.method));
  }
  if (flags.refine > 0) {
    throw InputError("flags --target and --refine",
                     "expected one of them, found both: refined plans have schedules that the "
                     "target may not know; drop one");
  }
}

PlanRequest make_plan_request(const PlanFlags& flags, const Problem& problem) {
  PlanRequest request;
  request.graph = problem.graph_builder();
  request.batch = problem.batch;
  request.sequence = problem.sequence;
  request.precision = problem.precision;
  request.free_axes = flags.free_axes;
  request.schedules = parse_schedules(flags.schedules);
  request.microbatch_counts = flags.microbatch_counts;
  using StageSizes = SpaceLimits::StageSizes;
  request.limits.stage_sizes = flags.stage_sizes == "all"       ? StageSizes::kAll
                               : flags.stage_sizes == "aligned" ? StageSizes::kAligned
                                                                : StageSizes::kAuto;
  request.gap = flags.gap;
  for (const std::string& text : flags.pins) {
    request.constraints.push_back(parse_constraint(Constraint::Polarity::kPin, text, "flag --pin"));
  }
  for (const std::string& text : flags.forbids) {
    request.constraints.push_back(
        parse_constraint(Constraint::Polarity::kForbid, text, "flag --forbid"));
  }
  if (!request.constraints.empty()) {
    check_constraints(request.constraints, request.graph(1), "flags --pin and --forbid");
  }
  request.threads = flags.threads;
  if (flags.time_limit_s > 0) {
    request.time_limit = Seconds(flags.time_limit_s);
  }
  return request;
}

void add_plan_flags(CLI::App& command, PlanFlags& flags) {
  add_problem_flags(command, flags.problem, ClusterArgument::kPositional);
  command.add_option("-o,--output", flags.output, "write the plan here");
  std::vector<std::string> names;
  std::string summaries;
  for (const PlanningMethod& method : planning_methods()) {
    names.push_back(method.name);
    summaries += (summaries.empty() ? "" : "; ") + method.name + ": " + method.summary;
  }
  command.add_option("--method", flags.method, summaries)
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  command.add_option("--schedule", flags.schedules, "only these schedules (default: all)")
      ->check(CLI::IsMember({"gpipe", "1f1b", "1f1b-eager", "interleaved"}));
  command
      .add_option("--microbatches",
                  flags.microbatch_counts,
                  "only these micro-batch counts (default: all divisors of the batch)")
      ->check(CLI::PositiveNumber);
  command.add_option(
      "--target",
      flags.target,
      "only plans that megatron, torchtitan, deepspeed or accelerate can express; says what that "
      "costs");
  command.add_option(
      "--why", flags.why, "price this layout against the plan, term by term: \"tp=8 pp=4 dp=4\"");
  command.add_flag("--sensitivity",
                   flags.sensitivity,
                   "plan again with one more node, 10 % more memory, 10 % more bandwidth");
  command
      .add_option("--pin",
                  flags.pins,
                  "nothing else for these layers: \"layer.[0-7]: tensor=4\"; may be repeated")
      ->allow_extra_args(false);
  command
      .add_option("--forbid",
                  flags.forbids,
                  "not that for these layers: \"layer.*: recompute=full\"; may be repeated")
      ->allow_extra_args(false);
  command.add_option("--free-axes", flags.free_axes, "free mesh axes beside data: 1 or 2")
      ->check(CLI::Range(1, 2))
      ->capture_default_str();
  command
      .add_option("--stage-sizes",
                  flags.stage_sizes,
                  "all; aligned: whole nodes or even parts of one; auto: all up to 16 devices")
      ->check(CLI::IsMember({"auto", "all", "aligned"}))
      ->capture_default_str();
  command.add_option("--gap", flags.gap, "stop when proved within this share, such as 1% or 0.01")
      ->transform(share_of_percent)
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--time-limit", flags.time_limit_s, "seconds; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--threads",
                  flags.threads,
                  "at most so many; runner-ups take a second, the plan depends on none")
      ->check(CLI::Range(0, 1024));
  command
      .add_option("--refine",
                  flags.refine,
                  "replay the best so many plans under each schedule and take the fastest")
      ->check(CLI::Range(0, 100));
  command.add_flag("--json", flags.json, "print one JSON document");
}

}  // namespace shardwise
