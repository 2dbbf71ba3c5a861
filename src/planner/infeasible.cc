// How: the uniform grid that comes nearest to fitting gives a first figure. find_plan itself says
// whether something fits when every device has `extra` bytes more: the least such figure is halved
// down to a step. A plan fits with the figure, and it is proved that none fits with a step less.
#include "planner/infeasible.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/errors.h"
#include "planner/methods/plan_space.h"

namespace shardwise::planning {

namespace {

constexpr std::int64_t kSteps = 4096;  // of the smallest device's memory

class ExtraMemory {
 public:
  ExtraMemory(const PlanRequest& request,
              const Cluster& cluster,
              const CostTable& costs,
              const Deadline& deadline)
      : request_(request),
        cluster_(cluster),
        costs_(costs),
        deadline_(Deadline::after(
            std::min(deadline.seconds_left(), request.explanation_limit.count), request.stop)) {
    request_.gap = 1e15;  // any plan will do
    request_.runner_ups = RunnerUps::kSkip;
    request_.progress = nullptr;
  }

  std::optional<Infeasibility> explain() {
    std::int64_t smallest = cluster_.types.front().memory.count;
    for (const DeviceType& type : cluster_.types) {
      smallest = std::min(smallest, type.memory.count);
    }
    const std::int64_t step = std::max<std::int64_t>(smallest / kSteps, 1);
    std::int64_t no = 0;  // proved not to do, in steps
    std::int64_t yes = 1;
    constexpr std::int64_t kMostSteps = kSteps * 1024;
    if (take_nearest_grid()) {
      yes = (excess_ + step - 1) / step;
    } else {
      while (!fits(yes * step)) {
        if (is_unknown_ || yes >= kMostSteps) {
          return std::nullopt;
        }
        no = std::exchange(yes, 2 * yes);
      }
    }
    while (yes - no > 1 && !is_unknown_) {
      const std::int64_t middle = no + (yes - no) / 2;
      if (fits(middle * step)) {
        yes = std::min(middle, (excess_ + step - 1) / step);
      } else if (!is_unknown_) {
        no = middle;
      }
    }
    return account(step);
  }

 private:
  // Keeps the plan if something fits.
  bool fits(std::int64_t extra) {
    Cluster larger = cluster_;
    for (DeviceType& type : larger.types) {
      type.memory.count += extra;
    }
    request_.time_limit = Seconds(deadline_.seconds_left());
    PlanResult result = find_plan(request_, larger, costs_);
    is_unknown_ |= result.stop_reason == StopReason::kLimitReached;
    if (result.plan) {
      excess_ = excess_of(*result.plan);
      plan_ = std::move(*result.plan);
    }
    return result.plan.has_value();
  }

  std::int64_t excess_of(const Plan& plan) const {
    const Evaluation evaluation =
        evaluate(plan, request_.graph(plan.microbatch()), cluster_, costs_);
    std::int64_t excess = 0;
    for (const StageMemory& memory : evaluation.stage_memory) {
      excess = std::max(excess, (memory.total() - memory.limit).count);
    }
    return excess;
  }

  // Among the grids that keep least: ZeRO 3, full recomputation, one sequence at a time. Only
  // those count that the request allows.
  bool take_nearest_grid() {
    const int devices = cluster_.num_devices();
    bool is_found = false;
    for (int tensor = 1; tensor <= devices; ++tensor) {
      for (int pipeline = 1; tensor * pipeline <= devices; ++pipeline) {
        UniformLayout layout;
        layout.tensor = tensor;
        layout.pipeline = pipeline;
        layout.data = devices / (tensor * pipeline);
        layout.zero = 3;
        layout.recompute = Recompute::kFull;
        try {
          Plan plan = make_uniform_plan(request_.graph,
                                        layout,
                                        request_.batch,
                                        request_.sequence,
                                        request_.precision,
                                        layout.world(),
                                        "infeasible");
          const std::int64_t excess = excess_of(plan);
          if ((!is_found || excess < excess_) && is_allowed(plan)) {
            excess_ = excess;
            plan_ = std::move(plan);
            is_found = true;
          }
        } catch (const InputError&) {
          continue;  // this grid does not fit the model or the batch
        }
      }
    }
    return is_found;
  }

  bool is_allowed(const Plan& plan) const {
    return is_in_space(plan, request_, cluster_) &&
           constraint_violations(request_.constraints, plan, request_.graph(plan.microbatch()))
               .empty();
  }

  Infeasibility account(std::int64_t step) const {
    const Evaluation evaluation =
        evaluate(plan_, request_.graph(plan_.microbatch()), cluster_, costs_);
    const auto excess = [&](std::size_t stage) {
      return evaluation.stage_memory[stage].total() - evaluation.stage_memory[stage].limit;
    };
    std::size_t worst = 0;
    for (std::size_t stage = 1; stage < evaluation.stage_memory.size(); ++stage) {
      worst = excess(stage) > excess(worst) ? stage : worst;
    }
    const StagePlan& stage = plan_.stages[worst];
    Infeasibility result;
    result.device = stage.devices.front();
    result.memory = evaluation.stage_memory[worst];
    result.first_layer = stage.chunks.front().first_layer;
    result.end_layer = stage.chunks.front().end_layer();
    result.extra_memory = excess(worst);
    result.is_least = !is_unknown_;
    // To the byte: a rounded figure need not do.
    result.would_fit = fmt::format(
        "{} ({} B) more memory on each device{}",
        format_bytes(result.extra_memory),
        result.extra_memory.count,
        is_unknown_ ? ", perhaps less"
                    : fmt::format(" (proved: {} less would not do)", format_bytes(Bytes(step))));
    return result;
  }

  PlanRequest request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const Deadline deadline_;
  bool is_unknown_ = false;  // a search was cut short
  Plan plan_;
  std::int64_t excess_ = 0;  // of its fullest device
};

}  // namespace

std::optional<Infeasibility> explain_infeasible(const PlanRequest& request,
                                                const Cluster& cluster,
                                                const CostTable& costs,
                                                const Deadline& deadline) {
  return ExtraMemory(request, cluster, costs, deadline).explain();
}

}  // namespace shardwise::planning
