// Best uniform grid as Megatron-LM spans it: every grid is built and evaluated.
#include <memory>

#include "cost/evaluator.h"
#include "planner/methods/best_plan.h"
#include "planner/microbatches.h"
#include "planner/planner.h"

namespace shardwise {

namespace {

std::vector<int> divisors_of(int number) {
  std::vector<int> divisors;
  for (int d = 1; d <= number; ++d) {
    if (number % d == 0) {
      divisors.push_back(d);
    }
  }
  return divisors;
}

using planning::allows;

class MegatronSearch {
 public:
  MegatronSearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request), cluster_(cluster), costs_(costs), best_(request, cluster) {}

  PlanResult search() {
    return best_.run([this] { search_all(); },
                     "uniform grids of " + std::to_string(cluster_.num_devices()) + " devices");
  }

 private:
  void search_all() {
    const int world = cluster_.num_devices();
    for (const int count : planning::microbatch_counts(request_)) {
      open(request_.batch / count);
      for (const int pipeline : divisors_of(world)) {
        for (const int tensor : divisors_of(world / pipeline)) {
          UniformLayout layout;
          layout.pipeline = pipeline;
          layout.tensor = tensor;
          layout.data = world / pipeline / tensor;
          if (graph_->microbatch % layout.data == 0) {
            layout.micro = graph_->microbatch / layout.data;
            try_grid(layout);
          }
        }
      }
    }
  }

  void open(std::int64_t microbatch) {
    evaluator_.reset();
    graph_ = std::make_unique<Graph>(request_.graph(microbatch));
    evaluator_ = std::make_unique<Evaluator>(*graph_, cluster_, costs_);
  }

  void try_grid(UniformLayout layout) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
      for (int zero = 0; zero <= (layout.data > 1 ? 1 : 0); ++zero) {
        for (int sequence = 0; sequence <= (layout.tensor > 1 ? 1 : 0); ++sequence) {
          layout.recompute = recompute;
          layout.zero = zero;
          layout.sequence_parallel = sequence == 1;
          if (allows(request_.limits.recomputes, recompute) &&
              allows(request_.limits.state_shardings, static_cast<StateSharding>(zero))) {
            try_schedules(layout);
          }
        }
      }
    }
  }

  void try_schedules(UniformLayout layout) {
    for (const Schedule schedule : {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe}) {
      const bool is_new = layout.pipeline > 1 || schedule == Schedule::k1F1B ||
                          !allows(request_.schedules, Schedule::k1F1B);
      if (allows(request_.schedules, schedule) && is_new) {
        layout.schedule = schedule;
        try_layout(layout);
      }
    }
    const int decoders = static_cast<int>(graph_->layers.size()) - 2;
    const auto count = request_.batch / graph_->microbatch;
    if (layout.pipeline == 1 || decoders < 1 || count % layout.pipeline != 0 ||
        !allows(request_.schedules, Schedule::kInterleaved)) {
      return;
    }
    layout.schedule = Schedule::kInterleaved;
    for (int chunks = 2; chunks * layout.pipeline <= decoders; ++chunks) {
      if (decoders % (chunks * layout.pipeline) == 0) {
        layout.chunks = chunks;
        try_layout(layout);
      }
    }
  }

  void try_layout(const UniformLayout& layout) {
    if (const auto plan = planning::find_uniform_plan(layout, *graph_, request_, cluster_)) {
      best_.judge(*plan, *graph_, *evaluator_);
    }
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Evaluator> evaluator_;
  planning::BestPlan best_;
};

}  // namespace

PlanResult find_megatron_plan(const PlanRequest& request,
                              const Cluster& cluster,
                              const CostTable& costs) {
  return MegatronSearch(request, cluster, costs).search();
}

}  // namespace shardwise
