// shardwise plan: the best plan, proved.
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "advisor/refine.h"
#include "check/work_bound.h"
#include "cli/advice.h"
#include "cli/command.h"
#include "cli/plan_flags.h"
#include "core/errors.h"
#include "files/json_writer.h"
#include "planner/methods/registry.h"
#include "planner/planner.h"
#include "planner/target_search.h"
#include "report/plan_report.h"
#include "report/progress_line.h"
#include "report/simulation_report.h"

namespace shardwise {

namespace {

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

// Set by the first Ctrl-C: the search then ends with what it has. The second one kills as usual.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void on_interrupt(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);
}

// How to get the proof that a limit cut off.
void say_limit(const PlanFlags& flags, const PlanResult& result) {
  const bool is_cut = result.stop_reason == StopReason::kFeasible ||
                      result.stop_reason == StopReason::kLimitReached;
  if (is_cut && flags.time_limit_s > 0 && !interrupted) {
    fmt::print(stderr,
               "shardwise: --time-limit {} ended the search; more seconds, or 0 for no limit, let "
               "it go on\n",
               flags.time_limit_s);
  }
}

int report_no_plan(const PlanFlags& flags,
                   const Problem& problem,
                   const PlanRequest& request,
                   const PlanFinder& find,
                   const PlanResult& result) {
  Advice advice;
  if (result.stop_reason == StopReason::kInfeasible) {
    advice = while_showing([] { return "nothing fits; looking for changes that would"; },
                           [&] { return fitting_advice(request, find, problem, result); });
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
  say_limit(flags, result);
  return result.stop_reason == StopReason::kInfeasible ? kExitInfeasible : kExitLimit;
}

// Methods other than ours prove nothing: what they find is their answer.
int exit_code(const PlanFlags& flags, const PlanResult& result) {
  return result.stop_reason == StopReason::kOptimal || flags.method != "shardwise" ? kExitDone
                                                                                   : kExitLimit;
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
  const std::vector<RefinedPlan> refined = while_showing(
      [] { return "replaying the best plans under each schedule"; },
      [&] {
        return refine(
            result, flags.refine, request.graph, problem.cluster.cluster, *problem.cluster.costs);
      });
  const RefinedPlan& best = refined.front();
  if (!best.fits) {
    fmt::print(stderr,
               "shardwise: no plan fits when replayed; the one that needs least:\n{}"
               "try --time-limit, a larger --refine, or a cluster with more memory\n",
               refined_table(refined));
    return kExitInfeasible;
  }
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
    return exit_code(flags, result);
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
  return exit_code(flags, result);
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
    const PlanFinder free_find = planning_method("shardwise").find;
    add(price_of_restriction(request, free_find, problem, "--target " + flags.target, result));
  } else if (!request.constraints.empty()) {
    add(price_of_restriction(request, find, problem, "the constraints", result));
  }
  if (!flags.why.empty()) {
    add(why_advice(flags.why, request, problem, result, account));
  }
  if (flags.sensitivity) {
    add(sensitivity_advice(request, find, problem, account));
  }
  return all;
}

std::string progress_text(const SearchProgress& progress) {
  const double best = progress.best;
  const double bound = progress.bound;
  const auto text = [](double picoseconds) { return format_seconds(Seconds(picoseconds * 1e-12)); };
  if (best == 0) {
    return bound == 0 ? "searching"
                      : fmt::format("searching: no plan takes less than {}", text(bound));
  }
  if (bound == 0) {
    return fmt::format("searching: best plan {}", text(best));
  }
  return fmt::format("searching: best plan {}, none takes less than {}, gap {:.2f} %",
                     text(best),
                     text(bound),
                     100 * (best / bound - 1));
}

int plan_command(const PlanFlags& flags) {
  check_plan_flags(flags);
  const PlanFinder find = finder_of(flags);
  const Problem problem = load_problem(flags.problem);
  PlanRequest request = make_plan_request(flags, problem);
  request.stop = &interrupted;
  std::signal(SIGINT, on_interrupt);
  const Cluster& cluster = problem.cluster.cluster;
  const CostTable& costs = *problem.cluster.costs;
  SearchProgress progress;
  request.progress = &progress;
  PlanResult result = while_showing([&] { return progress_text(progress); },
                                    [&] { return find(request, cluster, costs); });
  request.progress = nullptr;
  if (!result.plan) {
    return report_no_plan(flags, problem, request, find, result);
  }
  BoundCertificate certificate;
  if (!flags.output.empty() || result.stop_reason == StopReason::kFeasible) {
    certificate = while_showing(
        [] { return "proving a bound without the search"; },
        [&] {
          return certify_bound(request.graph, request.batch, request.precision, cluster, costs);
        });
    // Holds for every plan; a search that a limit ended may not have come as far.
    result.lower_bound = std::max(result.lower_bound, certificate.lower_bound());
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
    for (const CountBound& one : certificate.counts) {
      prediction.certificate.push_back({one.num_microbatches, one.bound});
    }
    const PlanFile file = make_plan_file(problem, *result.plan, evaluation, prediction);
    write_plan_file(flags.output, file, graph);
  }
  const Advice advice =
      while_showing([] { return "plan found; planning again with what changes"; },
                    [&] { return advice_of(flags, request, find, problem, result, evaluation); });
  const auto replay = [&] { return replay_advice(*result.plan, evaluation, graph, problem); };
  if (flags.json) {
    nlohmann::ordered_json json = result_json(flags, result);
    json.update(advice.json);
    json.update(replay().json);
    json.update(account_json(*result.plan, evaluation));
    json["plan"] = plan_to_json(*result.plan, graph);
    fmt::print("{}", to_json_text(json));
  } else {
    print_plan(problem, graph, result, evaluation);
    std::fflush(stdout);  // the answer stands; the replay may take a moment
    fmt::print("{}{}", replay().text, advice.text);
    if (!flags.output.empty()) {
      fmt::print("wrote {}\n", flags.output);
    }
  }
  say_limit(flags, result);
  return exit_code(flags, result);
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
  add_plan_flags(*command, *flags);
  command->callback([flags, &run] { run = [flags] { return plan_command(*flags); }; });
}

}  // namespace shardwise
