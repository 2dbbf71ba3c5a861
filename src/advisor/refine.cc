#include "advisor/refine.h"

#include <algorithm>
#include <tuple>

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

struct Candidate {
  std::string origin;
  const Plan* plan;
  Picoseconds formula_time;
};

std::vector<Candidate> candidates_of(const PlanResult& result, int most) {
  std::vector<Candidate> candidates;
  if (result.plan) {
    candidates.push_back({"best", &*result.plan, result.step_time});
  }
  for (const RunnerUp& runner_up : result.runner_ups) {
    const bool is_known =
        std::any_of(candidates.begin(), candidates.end(), [&](const Candidate& known) {
          return *known.plan == runner_up.plan;
        });
    if (!is_known) {
      candidates.push_back({runner_up.family, &runner_up.plan, runner_up.step_time});
    }
  }
  candidates.resize(std::min(candidates.size(), at(std::max(most, 0))));
  return candidates;
}

bool has_equal_meshes(const Plan& plan) {
  return std::all_of(plan.stages.begin(), plan.stages.end(), [&](const StagePlan& stage) {
    return stage.mesh == plan.stages.front().mesh;
  });
}

// Memory of the fullest device against its own limit.
void add_memory(const Simulation& simulation,
                const Cluster& cluster,
                const CostTable& costs,
                RefinedPlan& refined) {
  refined.fits = true;
  for (const RankActivity& rank : simulation.ranks) {
    const DeviceType& device = cluster.types[at(cluster.type_of(rank.rank))];
    const Bytes needed = rank.peak_memory + device.reserve + costs.process_memory();
    refined.peak_memory = std::max(refined.peak_memory, needed);
    refined.fits = refined.fits && needed <= device.memory;
  }
}

}  // namespace

std::optional<Plan> with_schedule(const Plan& plan, Schedule schedule, const Graph& graph) {
  const auto placement = traits_of(schedule).placement;
  const bool moves = placement != traits_of(plan.schedule).placement && plan.num_chunks() > 1;
  if (moves && !has_equal_meshes(plan)) {
    return std::nullopt;
  }
  Plan changed = plan;
  changed.schedule = schedule;
  if (moves) {
    for (int k = 0; k < plan.num_stages() * plan.num_chunks(); ++k) {
      const VirtualStage from = virtual_stage(plan, k);
      const VirtualStage to = virtual_stage(changed, k);
      changed.stages[at(to.stage)].chunks[at(to.chunk)] =
          plan.stages[at(from.stage)].chunks[at(from.chunk)];
    }
  }
  return plan_violations(changed, graph).empty() ? std::optional(std::move(changed)) : std::nullopt;
}

std::vector<RefinedPlan> refine(const PlanResult& result,
                                int candidates,
                                const GraphBuilder& build,
                                const Cluster& cluster,
                                const CostTable& costs) {
  std::vector<RefinedPlan> refined;
  for (const Candidate& candidate : candidates_of(result, candidates)) {
    const Graph graph = build(candidate.plan->microbatch());
    for (const ScheduleTraits& traits : all_schedules()) {
      std::optional<Plan> plan = with_schedule(*candidate.plan, traits.schedule, graph);
      const bool is_other = traits.schedule != candidate.plan->schedule;
      if (!plan || (is_other && plan->num_stages() == 1)) {
        continue;  // one stage: schedules differ in nothing but memory
      }
      const Simulation simulation = simulate(*plan, graph, cluster, costs);
      RefinedPlan& entry = refined.emplace_back();
      entry.origin = candidate.origin;
      entry.plan = std::move(*plan);
      entry.formula_time = candidate.formula_time;
      entry.replayed_time = simulation.step_time();
      add_memory(simulation, cluster, costs, entry);
    }
  }
  std::stable_sort(refined.begin(), refined.end(), [](const RefinedPlan& a, const RefinedPlan& b) {
    return std::tuple(!a.fits, a.replayed_time) < std::tuple(!b.fits, b.replayed_time);
  });
  return refined;
}

}  // namespace shardwise
