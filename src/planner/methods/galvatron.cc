#include "planner/methods/galvatron.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "cost/evaluator.h"
#include "planner/methods/best_plan.h"
#include "planner/microbatches.h"
#include "planner/uniform_layout.h"

namespace shardwise {

namespace {

// What a layer chooses for itself.
struct LayerMode {
  StateSharding sharding = StateSharding::kNone;
  Recompute recompute = Recompute::kNone;
};

using planning::allows;

class GalvatronGraphSearch {
 public:
  GalvatronGraphSearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request),
        any_modes_(request),
        cluster_(cluster),
        costs_(costs),
        best_(request, cluster) {
    any_modes_.limits.state_shardings.clear();
    any_modes_.limits.recomputes.clear();
  }

  PlanResult search() {
    return best_.run([this] { search_all(); }, "Galvatron's decision tree");
  }

 private:
  void search_all() {
    const int world = cluster_.num_devices();
    for (const int count : planning::microbatch_counts(request_)) {
      evaluator_.reset();
      graph_ = std::make_unique<Graph>(request_.graph(request_.batch / count));
      evaluator_ = std::make_unique<Evaluator>(*graph_, cluster_, costs_);
      for (int pipeline = 1; pipeline <= std::min(world, count); pipeline *= 2) {
        for (int tensor = 1; pipeline * tensor <= world; tensor *= 2) {
          if (world % (pipeline * tensor) == 0) {
            try_degrees(pipeline, tensor);
          }
        }
      }
    }
  }

  void try_degrees(int pipeline, int tensor) {
    UniformLayout layout;
    layout.pipeline = pipeline;
    layout.tensor = tensor;
    layout.data = cluster_.num_devices() / pipeline / tensor;
    if (graph_->microbatch % layout.data != 0) {
      return;
    }
    layout.micro = graph_->microbatch / layout.data;
    layout.sequence_parallel = tensor > 1;
    for (const Schedule schedule : {Schedule::k1F1B, Schedule::kGpipe}) {
      if (!allows(request_.schedules, schedule) || (pipeline == 1 && schedule == Schedule::kGpipe &&
                                                    allows(request_.schedules, Schedule::k1F1B))) {
        continue;
      }
      layout.schedule = schedule;
      std::optional<Plan> plan = planning::find_uniform_plan(layout, *graph_, any_modes_, cluster_);
      if (!plan) {
        continue;
      }
      plan_ = std::move(*plan);
      try_modes(StateSharding::kNone, layout.data);
      if (layout.data > 1) {
        try_modes(StateSharding::kGradients, layout.data);
      }
    }
  }

  // `common`: how data parallelism shards where a layer does not choose ZeRO-3.
  void try_modes(StateSharding common, int data) {
    std::vector<LayerMode> modes;
    for (const StateSharding sharding : {common, StateSharding::kParameters}) {
      for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
        if ((data > 1 || sharding == common) && allows(request_.limits.state_shardings, sharding) &&
            allows(request_.limits.recomputes, recompute)) {
          modes.push_back({sharding, recompute});
        }
      }
    }
    struct Uniform {
      Picoseconds time{0};
      bool fits = false;
    };
    std::vector<Uniform> uniform;
    for (const LayerMode& mode : modes) {
      const std::vector<int> none(plan_.stages.size(), 0);
      const Evaluation evaluation = evaluate_mix(mode, mode, none);
      uniform.push_back({evaluation.step_time, evaluation.fits()});
    }
    for (std::size_t fast = 0; fast < modes.size(); ++fast) {
      for (std::size_t small = 0; small < modes.size(); ++small) {
        if (!uniform[fast].fits && uniform[small].fits &&
            uniform[fast].time < uniform[small].time) {
          mix(modes[fast], modes[small]);
        }
      }
    }
  }

  // The fewest layers of each stage that must be `small`: all stages are bisected at once, for the
  // memory of a stage depends on its own layers only.
  void mix(const LayerMode& fast, const LayerMode& small) {
    std::vector<int> low;
    std::vector<int> high;
    for (const StagePlan& stage : plan_.stages) {
      low.push_back(0);
      high.push_back(static_cast<int>(stage.chunks[0].layers.size()));
    }
    while (low != high) {
      std::vector<int> middle;
      for (std::size_t s = 0; s < low.size(); ++s) {
        middle.push_back((low[s] + high[s]) / 2);
      }
      const Evaluation evaluation = evaluate_mix(fast, small, middle);
      for (std::size_t s = 0; s < low.size(); ++s) {
        if (low[s] < high[s]) {
          (evaluation.stage_memory[s].fits() ? high[s] : low[s]) =
              evaluation.stage_memory[s].fits() ? middle[s] : middle[s] + 1;
        }
      }
    }
    evaluate_mix(fast, small, low);
  }

  // The present plan with its first `counts` layers of each stage `small`, the others `fast`.
  Evaluation evaluate_mix(const LayerMode& fast,
                          const LayerMode& small,
                          const std::vector<int>& counts) {
    for (std::size_t s = 0; s < plan_.stages.size(); ++s) {
      int index = 0;
      for (LayerPlan& layer : plan_.stages[s].chunks[0].layers) {
        const LayerMode& mode = index++ < counts[s] ? small : fast;
        layer.state_sharding = mode.sharding;
        layer.recompute = mode.recompute;
      }
    }
    return best_.judge(plan_, *graph_, *evaluator_);
  }

  const PlanRequest& request_;
  PlanRequest any_modes_;  // the same; what layers choose for themselves is not yet limited
  const Cluster& cluster_;
  const CostTable& costs_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Evaluator> evaluator_;
  Plan plan_;
  planning::BestPlan best_;
};

}  // namespace

PlanResult find_galvatron_plan(const PlanRequest& request,
                               const Cluster& cluster,
                               const CostTable& costs) {
  return GalvatronGraphSearch(request, cluster, costs).search();
}

}  // namespace shardwise
