#include "cli/advice.h"

#include <fmt/format.h>

#include <algorithm>

#include "advisor/why.h"
#include "core/errors.h"
#include "report/advice_report.h"
#include "report/simulation_report.h"

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

constexpr double kMostSeconds = 5;  // of one search for a change that fits

CostsOfCluster costs_like(const Problem& problem) {
  return [&problem](const Cluster& cluster) {
    return with_costs(cluster, problem.cluster.table).costs;
  };
}

double seconds(Picoseconds time) { return to_seconds(time).count; }

double share_saved(Picoseconds before, Picoseconds after) {
  return 1 - static_cast<double>(after.count) / static_cast<double>(before.count);
}

}  // namespace

Advice price_of_restriction(PlanRequest request,
                            const PlanFinder& find,
                            const Problem& problem,
                            const std::string& restriction,
                            const PlanResult& restricted) {
  request.constraints.clear();
  request.runner_ups = RunnerUps::kSkip;
  request.progress = nullptr;
  const PlanResult free = find(request, problem.cluster.cluster, *problem.cluster.costs);
  Advice advice;
  if (!free.plan) {
    advice.text = fmt::format("no plan without {} was found before the limit\n", restriction);
    advice.json["restriction"] = {{"by", restriction},
                                  {"stop_reason", to_string(free.stop_reason)}};
    return advice;
  }
  const double price = seconds(restricted.step_time) / seconds(free.step_time) - 1;
  advice.text = fmt::format("without {}: {} per step; it costs {:.2f} %{}\n",
                            restriction,
                            format_seconds(to_seconds(free.step_time)),
                            100 * price,
                            free.stop_reason == StopReason::kOptimal ? "" : " or more");
  advice.json["restriction"] = {{"by", restriction},
                                {"stop_reason", to_string(free.stop_reason)},
                                {"free_step_time_s", seconds(free.step_time)},
                                {"cost_share", price}};
  return advice;
}

Advice sensitivity_advice(const PlanRequest& request,
                          const PlanFinder& find,
                          const Problem& problem,
                          const Evaluation& account) {
  const std::vector<Sensitivity> changes =
      find_sensitivity(request, find, problem.cluster.cluster, costs_like(problem));
  const BindingConstraint binding = find_binding_constraint(changes, account);
  Advice advice;
  advice.text = "\n" + sensitivity_table(changes, account.step_time, binding, account);
  advice.json["sensitivity"] = Json::array();
  for (const Sensitivity& one : changes) {
    Json entry = {{"change", one.change.name}, {"stop_reason", to_string(one.result.stop_reason)}};
    if (one.result.plan) {
      entry["step_time_s"] = seconds(one.result.step_time);
      entry["lower_bound_s"] = seconds(one.result.lower_bound);
      entry["saved_share"] = share_saved(account.step_time, one.result.step_time);
    }
    advice.json["sensitivity"].push_back(std::move(entry));
  }
  constexpr const char* kKinds[] = {"memory", "network", "compute"};
  advice.json["binding"] = {{"kind", kKinds[static_cast<int>(binding.kind)]},
                            {"stage", binding.stage},
                            {"change", binding.change},
                            {"saved_share", binding.gain}};
  return advice;
}

Advice why_advice(const std::string& layout_text,
                  const PlanRequest& request,
                  const Problem& problem,
                  const PlanResult& result,
                  const Evaluation& account) {
  const UniformLayout layout = parse_uniform_layout(layout_text, "flag --why");
  const Cluster& cluster = problem.cluster.cluster;
  if (layout.world() > cluster.num_devices()) {
    throw InputError("flag --why",
                     fmt::format("expected a layout of at most {} devices, which {} has, found "
                                 "\"{}\" with {}; use smaller degrees",
                                 cluster.num_devices(),
                                 cluster.name,
                                 layout_text,
                                 layout.world()));
  }
  const Plan plan = make_uniform_plan(request.graph,
                                      layout,
                                      request.batch,
                                      request.sequence,
                                      request.precision,
                                      layout.world(),
                                      "flag --why");
  const Evaluation own =
      evaluate(plan, request.graph(plan.microbatch()), cluster, *problem.cluster.costs);
  const std::vector<TermPair> terms = compare_terms(*result.plan, account, plan, own);
  const std::vector<MemoryPair> memory = compare_memory(account, own);
  Advice advice;
  const double slower = seconds(own.step_time) / seconds(account.step_time) - 1;
  advice.text = "\n" + why_table(layout_text, terms, memory) +
                fmt::format("  {} {}: {:+.2f} % step time{}\n",
                            layout_text,
                            own.fits() ? "fits" : "does not fit",
                            100 * slower,
                            own.fits() ? "" : ", were there memory enough");
  Json json = {{"layout", layout_text},
               {"step_time_s", seconds(own.step_time)},
               {"slower_share", slower},
               {"fits", own.fits()},
               {"terms", Json::array()},
               {"memory", Json::array()}};
  for (const TermPair& term : terms) {
    json["terms"].push_back(
        {{"term", term.name}, {"best_s", seconds(term.best)}, {"layout_s", seconds(term.other)}});
  }
  for (const MemoryPair& part : memory) {
    json["memory"].push_back(
        {{"part", part.name}, {"best_bytes", part.best.count}, {"layout_bytes", part.other.count}});
  }
  advice.json["why"] = std::move(json);
  return advice;
}

Advice replay_advice(const Plan& plan,
                     const Evaluation& account,
                     const Graph& graph,
                     const Problem& problem) {
  const ReplayCheck check =
      check_against_replay(plan, account, graph, problem.cluster.cluster, *problem.cluster.costs);
  Advice advice;
  advice.text = replay_line(check);
  Json json = {{"formula_off_least", check.band.least}, {"formula_off_most", check.band.most}};
  if (check.replayed) {
    json["step_time_s"] = seconds(*check.replayed);
    json["formula_off"] = check.off();
  }
  if (check.deadlock) {
    json["deadlock"] = *check.deadlock;
  }
  advice.json["replay"] = std::move(json);
  return advice;
}

Advice fitting_advice(const PlanRequest& request,
                      const PlanFinder& find,
                      const Problem& problem,
                      const PlanResult& result) {
  PlanRequest limited = request;
  limited.time_limit = Seconds(std::min(request.time_limit.count, kMostSeconds));
  const std::vector<FittingChange> changes = find_fitting_changes(
      limited, find, problem.cluster.cluster, costs_like(problem), result.infeasibility);
  Advice advice;
  advice.text = fitting_text(changes);
  advice.json["would_fit"] = Json::array();
  for (const FittingChange& change : changes) {
    advice.json["would_fit"].push_back({{"change", change.text}, {"is_least", change.is_least}});
  }
  return advice;
}

}  // namespace shardwise
