// shardwise plan: the best plan, proved.
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>

#include "advisor/refine.h"
#include "check/work_bound.h"
#include "cli/advice.h"
#include "cli/command.h"
#include "cli/inputs.h"
#include "core/errors.h"
#include "files/json_writer.h"
#include "planner/methods/registry.h"
#include "planner/planner.h"
#include "planner/target_search.h"
#include "report/plan_report.h"
#include "report/simulation_report.h"

namespace shardwise {

namespace {

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
  double time_limit_s = 0;
  int threads = 0;
  int refine = 0;
  bool json = false;
};

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

PlanRequest make_request(const PlanFlags& flags, const Problem& problem) {
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

nlohmann::ordered_json result_json(const PlanFlags& flags, const PlanResult& result) {
  nlohmann::ordered_json json = {{"method", flags.method},
                                 {"stop_reason", to_string(result.stop_reason)},
                                 {"search_time_s", result.search_time.count},
                                 {"lower_bound_s", to_seconds(result.lower_bound).count},
                                 {"space", result.space}};
  json["runner_ups"] = nlohmann::ordered_json::array();
  for (const RunnerUp& runner_up : result.runner_ups) {
    json["runner_ups"].push_back(
        {{"family", runner_up.family}, {"step_time_s", to_seconds(runner_up.step_time).count}});
  }
  return json;
}

void print_plan(const Problem& problem,
                const Graph& graph,
                const PlanResult& result,
                const Evaluation& evaluation) {
  const Plan& plan = *result.plan;
  fmt::print("{} on {}: {} per step, {:.0f} tokens/s\n",
             problem.model.model_type,
             problem.cluster.cluster.name,
             format_seconds(to_seconds(evaluation.step_time)),
             tokens_per_second(plan, evaluation.step_time));
  fmt::print("\n{}\n{}\n{}\n{}\n",
             plan_strip(plan, graph),
             time_table(plan, evaluation),
             memory_table(evaluation),
             runner_up_table(result));
  fmt::print("times {}{}\n",
             problem.cluster.costs->provenance(),
             evaluation.extrapolated ? "; some lie outside of the measured range" : "");
  fmt::print("{}\n", proof_line(result));
}

int report_no_plan(const PlanFlags& flags,
                   const Problem& problem,
                   const PlanRequest& request,
                   const PlanFinder& find,
                   const PlanResult& result) {
  Advice advice;
  if (result.stop_reason == StopReason::kInfeasible) {
    advice = fitting_advice(request, find, problem, result);
  }
  if (flags.json) {
    nlohmann::ordered_json json = result_json(flags, result);
    json.update(advice.json);
    fmt::print("{}", to_json_text(json));
  } else {
    fmt::print("{}\n", proof_line(result));
  }
  if (result.infeasibility) {
    fmt::print(stderr, "{}", infeasibility_text(*result.infeasibility, problem.graph_builder()(1)));
  }
  fmt::print(stderr, "{}", advice.text);
  return result.stop_reason == StopReason::kInfeasible ? kExitInfeasible : kExitLimit;
}

// The account of a replayed plan in the terms of a plan file: state and the rest.
Evaluation account_of(const RefinedPlan& refined) {
  Evaluation account;
  account.step_time = refined.replayed_time;
  for (int s = 0; s < refined.plan.num_stages(); ++s) {
    account.stage_memory.emplace_back().transient = refined.peak_memory;
  }
  return account;
}

int report_refined(const PlanFlags& flags,
                   const Problem& problem,
                   const PlanRequest& request,
                   const PlanResult& result) {
  const std::vector<RefinedPlan> refined =
      refine(result, flags.refine, request.graph, problem.cluster.cluster, *problem.cluster.costs);
  const RefinedPlan& best = refined.front();
  const Graph graph = request.graph(best.plan.microbatch());
  if (!flags.output.empty()) {
    PlanPrediction prediction;
    prediction.method = flags.method + ", refined by replay";
    prediction.space = result.space;
    const bool has_formula = traits_of(best.plan.schedule).has_cost_formula;
    const Evaluation account =
        has_formula ? evaluate(best.plan, graph, problem.cluster.cluster, *problem.cluster.costs)
                    : account_of(best);
    write_plan_file(flags.output, make_plan_file(problem, best.plan, account, prediction), graph);
  }
  if (flags.json) {
    nlohmann::ordered_json json = result_json(flags, result);
    json["refined"] = nlohmann::ordered_json::array();
    for (const RefinedPlan& entry : refined) {
      json["refined"].push_back({{"origin", entry.origin},
                                 {"schedule", to_string(entry.plan.schedule)},
                                 {"formula_step_time_s", to_seconds(entry.formula_time).count},
                                 {"step_time_s", to_seconds(entry.replayed_time).count},
                                 {"peak_memory_bytes", entry.peak_memory.count},
                                 {"fits", entry.fits}});
    }
    json["plan"] = plan_to_json(best.plan, graph);
    fmt::print("{}", to_json_text(json));
    return kExitDone;
  }
  fmt::print("{} on {}: {} per step by replay, {:.0f} tokens/s\n\n{}\n{}",
             problem.model.model_type,
             problem.cluster.cluster.name,
             format_seconds(to_seconds(best.replayed_time)),
             tokens_per_second(best.plan, best.replayed_time),
             plan_strip(best.plan, graph),
             refined_table(refined));
  fmt::print("times {}\n{}\n", problem.cluster.costs->provenance(), proof_line(result));
  if (!flags.output.empty()) {
    fmt::print("wrote {}\n", flags.output);
  }
  return kExitDone;
}

// Set by the first Ctrl-C: the search then ends with what it has. The second one kills as usual.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void on_interrupt(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);
}

void check_flags(const PlanFlags& flags) {
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

PlanFinder finder_of(const PlanFlags& flags) {
  if (flags.target.empty()) {
    return planning_method(flags.method).find;
  }
  const Framework target = parse_framework(flags.target, "flag --target");
  return [target](const PlanRequest& request, const Cluster& cluster, const CostTable& costs) {
    return find_target_plan(request, target, cluster, costs);
  };
}

// Everything that is asked for beside the plan.
Advice advice_of(const PlanFlags& flags,
                 const PlanRequest& request,
                 const PlanFinder& find,
                 const Problem& problem,
                 const PlanResult& result,
                 const Evaluation& account) {
  Advice all;
  const auto add = [&all](const Advice& advice) {
    all.text += advice.text;
    all.json.update(advice.json);
  };
  if (!flags.target.empty()) {
    add(price_of_restriction(request, problem, "--target " + flags.target, result));
  } else if (!request.constraints.empty()) {
    add(price_of_restriction(request, problem, "the constraints", result));
  }
  if (!flags.why.empty()) {
    add(why_advice(flags.why, request, problem, result, account));
  }
  if (flags.sensitivity) {
    add(sensitivity_advice(request, find, problem, account));
  }
  return all;
}

int plan_command(const PlanFlags& flags) {
  check_flags(flags);
  const PlanFinder find = finder_of(flags);
  const Problem problem = load_problem(flags.problem);
  PlanRequest request = make_request(flags, problem);
  request.stop = &interrupted;
  std::signal(SIGINT, on_interrupt);
  const Cluster& cluster = problem.cluster.cluster;
  const CostTable& costs = *problem.cluster.costs;
  const PlanResult result = find(request, cluster, costs);
  if (!result.plan) {
    return report_no_plan(flags, problem, request, find, result);
  }
  if (flags.refine > 0) {
    return report_refined(flags, problem, request, result);
  }
  const Graph graph = request.graph(result.plan->microbatch());
  const Evaluation evaluation = evaluate(*result.plan, graph, cluster, costs);
  PlanPrediction prediction;
  prediction.method = flags.target.empty() ? flags.method : "target " + flags.target;
  prediction.stop_reason = to_string(result.stop_reason);
  prediction.lower_bound = result.lower_bound;
  prediction.space = result.space;
  prediction.gap = flags.gap;
  if (!flags.output.empty()) {
    const BoundCertificate certificate =
        certify_bound(request.graph, request.batch, request.precision, cluster, costs);
    for (const CountBound& one : certificate.counts) {
      prediction.certificate.push_back({one.num_microbatches, one.bound});
    }
    const PlanFile file = make_plan_file(problem, *result.plan, evaluation, prediction);
    write_plan_file(flags.output, file, graph);
  }
  const Advice advice = advice_of(flags, request, find, problem, result, evaluation);
  if (flags.json) {
    nlohmann::ordered_json json = result_json(flags, result);
    json.update(advice.json);
    json.update(account_json(*result.plan, evaluation));
    json["plan"] = plan_to_json(*result.plan, graph);
    fmt::print("{}", to_json_text(json));
  } else {
    print_plan(problem, graph, result, evaluation);
    fmt::print("{}", advice.text);
    if (!flags.output.empty()) {
      fmt::print("wrote {}\n", flags.output);
    }
  }
  return result.stop_reason == StopReason::kOptimal || flags.method != "shardwise" ? kExitDone
                                                                                   : kExitLimit;
}

}  // namespace

void add_plan_command(CLI::App& app, CommandRun& run) {
  CLI::App* command = app.add_subcommand("plan", "find the fastest plan that fits, and prove it");
  command->footer(
      "Example: shardwise plan config.json dgx-h100:1 --batch 64 --sequence 4096 --precision bf16 "
      "-o plan.json\n"
      "         shardwise plan config.json dgx-h100:2 --batch 64 --sequence 4096 --precision bf16 "
      "--target megatron --sensitivity --why \"tp=8 dp=2\"");
  const auto flags = std::make_shared<PlanFlags>();
  add_problem_flags(*command, flags->problem, ClusterArgument::kPositional);
  command->add_option("-o,--output", flags->output, "write the plan here");
  std::vector<std::string> names;
  std::string summaries;
  for (const PlanningMethod& method : planning_methods()) {
    names.push_back(method.name);
    summaries += (summaries.empty() ? "" : "; ") + method.name + ": " + method.summary;
  }
  command->add_option("--method", flags->method, summaries)
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  command->add_option("--schedule", flags->schedules, "only these schedules (default: all)")
      ->check(CLI::IsMember({"gpipe", "1f1b", "1f1b-eager", "interleaved"}));
  command
      ->add_option("--microbatches",
                   flags->microbatch_counts,
                   "only these micro-batch counts (default: all divisors of the batch)")
      ->check(CLI::PositiveNumber);
  command->add_option(
      "--target",
      flags->target,
      "only plans that megatron, torchtitan, deepspeed or accelerate can express; says what that "
      "costs");
  command->add_option(
      "--why", flags->why, "price this layout against the plan, term by term: \"tp=8 pp=4 dp=4\"");
  command->add_flag("--sensitivity",
                    flags->sensitivity,
                    "plan again with one more node, 10 % more memory, 10 % more bandwidth");
  command
      ->add_option("--pin",
                   flags->pins,
                   "nothing else for these layers: \"layer.[0-7]: tensor=4\"; may be repeated")
      ->allow_extra_args(false);
  command
      ->add_option("--forbid",
                   flags->forbids,
                   "not that for these layers: \"layer.*: recompute=full\"; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--free-axes", flags->free_axes, "free mesh axes beside data: 1 or 2")
      ->check(CLI::Range(1, 2))
      ->capture_default_str();
  command
      ->add_option("--stage-sizes",
                   flags->stage_sizes,
                   "all; aligned: whole nodes or even parts of one; auto: all up to 16 devices")
      ->check(CLI::IsMember({"auto", "all", "aligned"}))
      ->capture_default_str();
  command->add_option("--gap", flags->gap, "stop when proved within this share, such as 1% or 0.01")
      ->transform(share_of_percent)
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--time-limit", flags->time_limit_s, "seconds; 0: none")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--threads", flags->threads, "0: all cores; the plan does not depend on it")
      ->check(CLI::Range(0, 1024));
  command
      ->add_option("--refine",
                   flags->refine,
                   "replay the best so many plans under each schedule and take the fastest")
      ->check(CLI::Range(0, 100));
  command->add_flag("--json", flags->json, "print one JSON document");
  command->callback([flags, &run] { run = [flags] { return plan_command(*flags); }; });
}

}  // namespace shardwise
