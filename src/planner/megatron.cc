// Best uniform grid as Megatron-LM spans it: every grid is built and evaluated.
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>

#include "core/errors.h"
#include "cost/evaluator.h"
#include "planner/deadline.h"
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

template <typename Value>
bool allows(const std::vector<Value>& allowed, Value value) {
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

class MegatronSearch {
 public:
  MegatronSearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request),
        cluster_(cluster),
        costs_(costs),
        deadline_(planning::Deadline::after(request.time_limit.count, request.stop)) {}

  PlanResult search() {
    bool is_whole = true;
    try {
      search_all();
    } catch (const planning::SearchStopped&) {
      is_whole = false;
    }
    if (result_.plan) {
      result_.stop_reason = is_whole ? StopReason::kOptimal : StopReason::kFeasible;
    } else {
      result_.stop_reason = is_whole ? StopReason::kInfeasible : StopReason::kLimitReached;
    }
    result_.lower_bound = is_whole ? result_.step_time : Picoseconds(0);
    result_.space = "uniform grids of " + std::to_string(cluster_.num_devices()) + " devices, " +
                    std::to_string(tried_) + " evaluated";
    return std::move(result_);
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
          if (graph_->microbatch % layout.data == 0 && is_allowed(layout)) {
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

  bool is_allowed(const UniformLayout& layout) const {
    const SpaceLimits& limits = request_.limits;
    return (limits.max_stages == 0 || layout.pipeline <= limits.max_stages) &&
           (limits.max_stage_devices == 0 ||
            layout.tensor * layout.data <= limits.max_stage_devices) &&
           (limits.max_data_degree == 0 || layout.data <= limits.max_data_degree) &&
           (layout.tensor == 1 || request_.free_axes > 0);
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
    Plan plan;
    try {
      plan = make_uniform_plan(*graph_,
                               layout,
                               request_.batch,
                               request_.sequence,
                               request_.precision,
                               cluster_.num_devices(),
                               "");
    } catch (const InputError&) {
      return;  // the grid does not fit the model
    }
    if (!is_in_space(plan) || !constraint_violations(request_.constraints, plan, *graph_).empty()) {
      return;
    }
    ++tried_;
    if (deadline_.has_passed()) {
      throw planning::SearchStopped{};
    }
    const Evaluation evaluation = evaluator_->evaluate(plan);
    if (evaluation.fits() && (!result_.plan || evaluation.step_time < result_.step_time)) {
      result_.plan = std::move(plan);
      result_.step_time = evaluation.step_time;
    }
  }

  // Stages of one device type each, and no more free axes than allowed.
  bool is_in_space(const Plan& plan) const {
    return std::all_of(plan.stages.begin(), plan.stages.end(), [&](const StagePlan& stage) {
      const int axes = (stage.mesh.sizes[1] > 1 ? 1 : 0) + (stage.mesh.sizes[2] > 1 ? 1 : 0);
      const int type = cluster_.type_of(stage.devices.front());
      return axes <= request_.free_axes &&
             std::all_of(stage.devices.begin(), stage.devices.end(), [&](int device) {
               return cluster_.type_of(device) == type;
             });
    });
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Evaluator> evaluator_;
  PlanResult result_;
  int tried_ = 0;
  const planning::Deadline deadline_;
};

}  // namespace

PlanResult find_megatron_plan(const PlanRequest& request,
                              const Cluster& cluster,
                              const CostTable& costs) {
  const auto begin = std::chrono::steady_clock::now();
  PlanResult result = MegatronSearch(request, cluster, costs).search();
  result.search_time =
      Seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return result;
}

}  // namespace shardwise
