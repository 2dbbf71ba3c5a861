// The search outside of a pipeline: micro-batch counts, schedules, numbers of stages and chunks.
// One incumbent is shared; the combination with the least bound is looked at next, until no bound
// is below the incumbent.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <tuple>

#include "planner/incumbent.h"
#include "planner/infeasible.h"
#include "planner/microbatches.h"
#include "planner/pipeline_search.h"
#include "planner/runner_ups.h"

namespace shardwise {

namespace {

using planning::Deadline;
using planning::LayerChain;
using planning::MicrobatchModel;
using planning::PipelineSearch;
using planning::PipelineShape;
using planning::StageSearch;
using planning::TieCase;

// A micro-batch count and all that is remembered for it.
struct Count {
  std::unique_ptr<MicrobatchModel> model;
  // By (chunks, tie).
  std::map<std::pair<int, TieCase>, std::unique_ptr<StageSearch>> stages;
};

struct Combination {
  std::unique_ptr<PipelineSearch> search;
  int stages = 1;
  double coarse_weight = 0;  // serves all numbers of stages of a micro-batch count
  bool is_sharp = false;
  bool is_solved = false;
};

class PlanSearch {
 public:
  PlanSearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request), cluster_(cluster), costs_(costs), places_(cluster) {
    incumbent_.deadline = Deadline::after(request.time_limit.count, request.stop);
    incumbent_.gap = request.gap;
  }

  PlanResult search() {
    const std::vector<int> counts = planning::microbatch_counts(request_);
    try {
      search_all(counts);
    } catch (const planning::SearchStopped&) {
      // What was found and proved before stands.
    }
    return result(static_cast<int>(counts.size()));
  }

 private:
  void search_all(const std::vector<int>& counts) {
    for (const int count : counts) {
      incumbent_.deadline.check();
      add_count(count);
    }
    knows_all_ = true;
    // One stage first: quickly done, and its best plan spares looking closely at most of the rest.
    for (Combination& combination : combinations_) {
      if (combination.stages == 1) {
        combination.search->raise_bound(combination.search->step_weight());
      }
    }
    close_below(1);
    for (Combination& combination : combinations_) {
      if (combination.stages > 1) {
        combination.search->raise_bound(combination.coarse_weight);
        combination.search->release();
      }
    }
    close_below(std::numeric_limits<int>::max());
  }

  // Looks at combinations of at most so many stages, least bound first, until none can win.
  void close_below(int most_stages) {
    while (Combination* next = least(most_stages)) {
      if (next->search->bound() >= incumbent_.cutoff()) {
        break;
      }
      if (!next->is_sharp) {
        next->search->sharpen();
        next->is_sharp = true;
      } else {
        next->search->solve();
        next->is_solved = true;
      }
      next->search->release();
    }
  }

  bool allows(Schedule schedule) const {
    const std::vector<Schedule>& allowed = request_.schedules;
    return allowed.empty() || std::find(allowed.begin(), allowed.end(), schedule) != allowed.end();
  }

  void add_count(int count) {
    counts_.emplace_back();
    counts_.back().model = std::make_unique<MicrobatchModel>(
        request_, cluster_, costs_, places_, incumbent_.deadline, count);
    const MicrobatchModel& model = *counts_.back().model;
    const int most_stages = std::min(model.num_layers(), cluster_.num_devices());
    for (int stages = 1; stages <= most_stages; ++stages) {
      if (request_.limits.max_stages > 0 && stages > request_.limits.max_stages) {
        break;
      }
      add_plain(count, stages);
      if (stages > 1 && count % stages == 0 && allows(Schedule::kInterleaved)) {
        add_interleaved(stages);
      }
    }
  }

  // Proved dominances: with one stage or one micro-batch all plain schedules cost and hold the
  // same. gpipe never beats 1f1b-eager: its period max f + max b is at least max (f + b), its
  // transfers likewise, and it holds m micro-batches.
  void add_plain(int count, int stages) {
    const std::vector<Schedule> order = {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe};
    bool has_eager = false;
    for (const Schedule schedule : order) {
      if (!allows(schedule) || (schedule == Schedule::kGpipe && has_eager)) {
        continue;
      }
      if (stages == 1) {
        if (counts_.back().model->is_tied()) {
          add(schedule, 1, 1, TieCase::kShared);
          add(schedule, 1, 1, TieCase::kExchanged);
        } else {
          add(schedule, 1, 1, TieCase::kNone);
        }
      } else {
        add(schedule, stages, 1, pipeline_tie());
      }
      // gpipe with one stage holds all micro-batches, the others one.
      if (stages == 1 && schedule != Schedule::kGpipe) {
        return;
      }
      if (count == 1) {
        return;
      }
      has_eager |= schedule == Schedule::k1F1BEager;
    }
  }

  TieCase pipeline_tie() const {
    return counts_.back().model->is_tied() ? TieCase::kExchanged : TieCase::kNone;
  }

  // Every position runs the same decoder layers in each of its chunks. One chunk is never better
  // than 1f1b or 1f1b-eager: no shorter period, no less to fill, no fewer micro-batches in flight.
  void add_interleaved(int stages) {
    const MicrobatchModel& model = *counts_.back().model;
    const int decoders = model.num_layers() - 2;
    for (int layer = 2; layer <= decoders; ++layer) {
      if (model.block_of(layer) != model.block_of(1)) {
        return;
      }
    }
    const int least_chunks = allows(Schedule::k1F1B) || allows(Schedule::k1F1BEager) ? 2 : 1;
    for (int chunks = least_chunks; chunks * stages <= decoders; ++chunks) {
      if (decoders % chunks == 0) {
        add(Schedule::kInterleaved, stages, chunks, pipeline_tie());
      }
    }
  }

  void add(Schedule schedule, int stages, int chunks, TieCase tie) {
    Count& count = counts_.back();
    std::unique_ptr<StageSearch>& stage_search = count.stages[{chunks, tie}];
    if (stage_search == nullptr) {
      LayerChain chain;
      chain.chunks = chunks;
      const int layers = count.model->num_layers();
      const int kept = chunks == 1 ? layers : 1 + (layers - 2) / chunks;
      for (int layer = 0; layer < kept; ++layer) {
        chain.layers.push_back(layer);
      }
      if (chunks > 1) {
        chain.layers.push_back(layers - 1);
      }
      stage_search = std::make_unique<StageSearch>(*count.model, chain, tie);
    }
    Combination combination;
    combination.search = std::make_unique<PipelineSearch>(
        *count.model, *stage_search, PipelineShape{schedule, stages, chunks, tie}, incumbent_);
    combination.stages = stages;
    const int most_stages = std::min(count.model->num_layers(), cluster_.num_devices());
    combination.coarse_weight = 1.0 / (count.model->num_microbatches() + most_stages - 1);
    combinations_.push_back(std::move(combination));
  }

  // Unsolved combination of least bound; ties: the earlier one.
  Combination* least(int most_stages) {
    Combination* best = nullptr;
    for (Combination& combination : combinations_) {
      if (!combination.is_solved && combination.stages <= most_stages &&
          (best == nullptr || combination.search->bound() < best->search->bound())) {
        best = &combination;
      }
    }
    return best;
  }

  PlanResult result(int num_counts) {
    PlanResult result;
    double bound = planning::kForbidden;
    for (const Combination& combination : combinations_) {
      bound = std::min(bound, combination.search->bound());
    }
    if (!knows_all_) {
      bound = 0;
    }
    result.plan = incumbent_.plan;
    result.step_time = Picoseconds(incumbent_.plan ? incumbent_.step_time : 0);
    const bool is_proved = bound >= incumbent_.cutoff();
    if (incumbent_.plan) {
      result.stop_reason = is_proved ? StopReason::kOptimal : StopReason::kFeasible;
      bound = std::min(bound, static_cast<double>(incumbent_.step_time));
    } else {
      result.stop_reason =
          bound == planning::kForbidden ? StopReason::kInfeasible : StopReason::kLimitReached;
      bound = bound == planning::kForbidden ? 0 : bound;
    }
    result.lower_bound = Picoseconds(static_cast<std::int64_t>(bound));
    result.space = planning::describe_space(request_, cluster_, num_counts);
    return result;
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const planning::StagePlaces places_;
  planning::Incumbent incumbent_;
  std::vector<Count> counts_;
  std::vector<Combination> combinations_;
  bool knows_all_ = false;  // combinations_ covers the space
};

}  // namespace

PlanResult find_plan(const PlanRequest& request, const Cluster& cluster, const CostTable& costs) {
  const auto begin = std::chrono::steady_clock::now();
  const planning::Deadline deadline =
      planning::Deadline::after(request.time_limit.count, request.stop);
  PlanResult result = PlanSearch(request, cluster, costs).search();
  if (result.stop_reason == StopReason::kInfeasible && request.runner_ups == RunnerUps::kFind) {
    result.infeasibility = planning::explain_infeasible(request, cluster, costs);
  }
  if (result.plan && request.runner_ups == RunnerUps::kFind) {
    result.runner_ups = planning::find_runner_ups(request, cluster, costs, deadline);
  }
  result.search_time =
      Seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return result;
}

}  // namespace shardwise
