// How: every layout that treats all layers alike is written down (target_grid.h) and asked of the
// framework; each with a number of stages, a place and a schedule gets a bound from the prices of
// its layers; splits of the layers are then solved exactly, least bound first, until no bound is
// below the best plan.
#include "planner/target_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/errors.h"
#include "core/stopwatch.h"
#include "planner/deadline.h"
#include "planner/microbatches.h"
#include "planner/space.h"
#include "planner/target_prices.h"

namespace shardwise {

namespace {

using planning::GridPipeline;
using planning::TargetGrid;
using planning::TargetPrices;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

template <typename Value>
bool allows(const std::vector<Value>& allowed, Value value) {
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

void require_one_stack(const Graph& graph, Framework target) {
  if (!is_one_stack(graph)) {
    throw InputError("flag --target",
                     fmt::format("expected a model of embedding, one stack of layers and head, "
                                 "which {} can be told about, found {}; plan without --target",
                                 to_string(target),
                                 graph.model_type));
  }
}

struct Candidate {
  std::int64_t bound = 0;
  int grid = 0;
  GridPipeline pipeline;
};

// A layout with what is asked of it again and again.
struct KnownGrid {
  TargetGrid grid;
  std::vector<LayerPlan> layers;
  FrameworkPlan words;  // of one stage
};

class TargetSearch {
 public:
  TargetSearch(const PlanRequest& request,
               Framework target,
               const Cluster& cluster,
               const CostTable& costs)
      : request_(request),
        target_(target),
        cluster_(cluster),
        costs_(costs),
        deadline_(planning::Deadline::after(request.time_limit.count, request.stop)),
        devices_(planning::devices_by_type(cluster)),
        is_aligned_(planning::is_aligned(request.limits, cluster)) {
    for (const Constraint& constraint : request.constraints) {
      (constraint.subject == Constraint::Subject::kCut ? cuts_ : layer_rules_)
          .push_back(constraint);
    }
  }

  PlanResult search() {
    const std::vector<int> counts = planning::microbatch_counts(request_);
    const Graph whole = request_.graph(request_.batch);
    require_one_stack(whole, target_);
    is_size_ = planning::stage_sizes(whole, cluster_, request_.free_axes, request_.limits);
    bool is_whole = true;
    try {
      for (const int count : counts) {
        search_count(count);
      }
    } catch (const planning::SearchStopped&) {
      is_whole = false;
    }
    if (result_.plan) {
      result_.stop_reason = is_whole ? StopReason::kOptimal : StopReason::kFeasible;
    } else {
      result_.stop_reason = is_whole ? StopReason::kInfeasible : StopReason::kLimitReached;
    }
    result_.lower_bound = is_whole && result_.plan ? result_.step_time : Picoseconds(0);
    result_.space = fmt::format(
        "plans that {} can express on up to {} devices: {} layouts, {} pipelines of them",
        to_string(target_),
        cluster_.num_devices(),
        layouts_,
        pipelines_);
    return std::move(result_);
  }

 private:
  void search_count(int count) {
    const Graph graph = request_.graph(request_.batch / count);
    TargetPrices prices(graph, count, request_.precision, cluster_, costs_);
    grids_.clear();
    candidates_.clear();
    for (int size = 1; size < static_cast<int>(is_size_.size()); ++size) {
      const int most = request_.limits.max_stage_devices;
      if (is_size_[at(size)] && (most == 0 || size <= most)) {
        add_size(graph, prices, count, size);
      }
    }
    std::stable_sort(candidates_.begin(),
                     candidates_.end(),
                     [](const Candidate& a, const Candidate& b) { return a.bound < b.bound; });
    for (const Candidate& candidate : candidates_) {
      if (candidate.bound >= cutoff()) {
        break;
      }
      check_time();
      solve(graph, prices, count, candidate);
    }
  }

  std::int64_t cutoff() const {
    return result_.plan ? result_.step_time.count : std::numeric_limits<std::int64_t>::max();
  }

  void check_time() const {
    if (deadline_.has_passed()) {
      throw planning::SearchStopped{};
    }
  }

  void add_size(const Graph& graph, TargetPrices& prices, int count, int size) {
    const std::vector<GridPipeline> places = places_of(graph, size);
    if (places.empty()) {
      return;
    }
    for (const Mesh& mesh :
         planning::meshes_of(graph, size, request_.free_axes, request_.limits, is_aligned_)) {
      planning::for_each_grid(graph, mesh, [&](const TargetGrid& grid) {
        check_time();
        add_grid(graph, prices, count, grid, places);
      });
    }
  }

  // Pipelines of equal stages on consecutive devices, each where find_plan may put it.
  std::vector<GridPipeline> places_of(const Graph& graph, int size) const {
    std::vector<GridPipeline> places;
    const int layers = static_cast<int>(graph.layers.size());
    for (const std::vector<int>& of_type : devices_) {
      for (const int last : planning::places_for(cluster_, of_type, 0, size, is_aligned_)) {
        std::vector<int> used(devices_.size(), 0);
        int start = of_type[at(last)];
        for (int stages = 1; start >= 0 && stages <= layers; ++stages, start -= size) {
          if (!take_place(start, size, used) ||
              (request_.limits.max_stages > 0 && stages > request_.limits.max_stages)) {
            break;
          }
          places.push_back({start, stages, 1, Schedule::k1F1B});
        }
      }
    }
    return places;
  }

  // Whether a stage may stand on devices [start, start + size), before those used of each type.
  bool take_place(int start, int size, std::vector<int>& used) const {
    const int type = cluster_.type_of(start);
    const std::vector<int>& of_type = devices_[at(type)];
    const auto begin = std::lower_bound(of_type.begin(), of_type.end(), start) - of_type.begin();
    const auto end = static_cast<std::size_t>(begin) + at(size);
    if (end > of_type.size() || of_type[end - 1] != start + size - 1) {
      return false;
    }
    const std::vector<int> allowed =
        planning::places_for(cluster_, of_type, used[at(type)], size, is_aligned_);
    used[at(type)] = static_cast<int>(of_type.size()) - static_cast<int>(begin);
    return std::find(allowed.begin(), allowed.end(), static_cast<int>(begin)) != allowed.end();
  }

  void add_grid(const Graph& graph,
                TargetPrices& prices,
                int count,
                TargetGrid grid,
                const std::vector<GridPipeline>& places) {
    for (const StateSharding state : {StateSharding::kNone,
                                      StateSharding::kOptimizer,
                                      StateSharding::kGradients,
                                      StateSharding::kParameters}) {
      for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
        grid.state = state;
        grid.recompute = recompute;
        if (!allows(request_.limits.state_shardings, state) ||
            !allows(request_.limits.recomputes, recompute) ||
            !allows(request_.limits.recomputes, Recompute::kNone)) {
          continue;
        }
        std::optional<KnownGrid> known = known_grid(graph, count, grid);
        if (!known) {
          continue;
        }
        ++layouts_;
        grids_.push_back(std::move(*known));
        for (const GridPipeline& place : places) {
          add_pipelines(graph, prices, count, place);
        }
      }
    }
  }

  std::optional<KnownGrid> known_grid(const Graph& graph, int count, const TargetGrid& grid) const {
    KnownGrid known;
    known.grid = grid;
    const int layers = static_cast<int>(graph.layers.size());
    for (int layer = 0; layer < layers; ++layer) {
      std::optional<LayerPlan> plan = planning::grid_layer(graph, layer, grid);
      if (!plan) {
        return std::nullopt;
      }
      known.layers.push_back(std::move(*plan));
    }
    const Plan plan = filled(planning::grid_plan(graph, grid, known.layers, 0, 1, {layers}), count);
    if (!plan_violations(plan, graph).empty() ||
        !constraint_violations(layer_rules_, plan, graph).empty()) {
      return std::nullopt;
    }
    try {
      known.words = describe_for_frameworks(plan, graph, "target");
    } catch (const InputError&) {
      return std::nullopt;  // ranks in an order that frameworks do not have
    }
    if (!framework_refusal(target_, known.words).empty()) {
      return std::nullopt;
    }
    return known;
  }

  Plan filled(Plan plan, int count) const {
    plan.batch = request_.batch;
    plan.sequence = request_.sequence;
    plan.num_microbatches = count;
    plan.precision = request_.precision;
    return plan;
  }

  // Of the last grid, on `place`: one for each schedule.
  void add_pipelines(const Graph& graph,
                     TargetPrices& prices,
                     int count,
                     const GridPipeline& place) {
    for (const Schedule schedule : {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe}) {
      GridPipeline pipeline = place;
      pipeline.schedule = schedule;
      add_candidate(prices, pipeline);
    }
    const int decoders = static_cast<int>(graph.layers.size()) - 2;
    if (place.num_stages == 1 || count % place.num_stages != 0 || !cuts_.empty() ||
        !are_alike(graph)) {
      return;
    }
    for (int chunks = 2; chunks * place.num_stages <= decoders; ++chunks) {
      if (decoders % chunks == 0) {
        GridPipeline pipeline = place;
        pipeline.schedule = Schedule::kInterleaved;
        pipeline.num_chunks = chunks;
        add_candidate(prices, pipeline);
      }
    }
  }

  // The interleaved schedule of find_plan: all decoder layers alike, to the constraints too.
  bool are_alike(const Graph& graph) const {
    const auto decoder = graph.layers.begin() + 1;
    return std::all_of(decoder, graph.layers.end() - 1, [&](const Layer& layer) {
      return layer.block == decoder->block && constraints_on(layer_rules_, layer.name) ==
                                                  constraints_on(layer_rules_, decoder->name);
    });
  }

  void add_candidate(TargetPrices& prices, const GridPipeline& pipeline) {
    const KnownGrid& known = grids_.back();
    FrameworkPlan words = known.words;
    words.pipeline = pipeline.num_stages;
    words.chunks = pipeline.num_chunks;
    words.schedule = pipeline.schedule;
    if (!allows(request_.schedules, pipeline.schedule) ||
        !framework_refusal(target_, words).empty()) {
      return;
    }
    const std::int64_t bound = prices.bound(known.grid, known.layers, pipeline);
    if (bound < cutoff()) {
      candidates_.push_back({bound, static_cast<int>(grids_.size()) - 1, pipeline});
    }
    ++pipelines_;
  }

  void solve(const Graph& graph, TargetPrices& prices, int count, const Candidate& candidate) {
    const KnownGrid& known = grids_[at(candidate.grid)];
    const planning::SplitProblem problem =
        prices.split_problem(known.grid, known.layers, candidate.pipeline, [&](int begin, int end) {
          return may_be_stage(graph, begin, end);
        });
    const std::optional<planning::Split> split = planning::best_split(problem, cutoff());
    if (!split) {
      return;
    }
    Plan plan = filled(planning::grid_plan(graph,
                                           known.grid,
                                           known.layers,
                                           candidate.pipeline.start,
                                           candidate.pipeline.num_stages,
                                           prices.chunk_layers(candidate.pipeline, split->counts)),
                       count);
    plan.schedule = candidate.pipeline.schedule;
    const Evaluation evaluation = evaluate(plan, graph, cluster_, costs_);
    SHARDWISE_CHECK(evaluation.step_time.count == split->step,
                    "target search and evaluator price a plan alike");
    SHARDWISE_CHECK(evaluation.fits(), "target search and evaluator account memory alike");
    result_.plan = std::move(plan);
    result_.step_time = evaluation.step_time;
  }

  bool may_be_stage(const Graph& graph, int begin, int end) const {
    for (int layer = std::max(begin, 1); layer < end; ++layer) {
      const StageBegin where = layer == begin ? StageBegin::kHere : StageBegin::kEarlier;
      for (const int number : constraints_on(cuts_, graph.layers[at(layer)].name)) {
        if (!allows_cut(cuts_[at(number)], where)) {
          return false;
        }
      }
    }
    return true;
  }

  const PlanRequest& request_;
  const Framework target_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const planning::Deadline deadline_;
  const std::vector<std::vector<int>> devices_;  // by type
  const bool is_aligned_;
  Constraints cuts_;
  Constraints layer_rules_;
  std::vector<bool> is_size_;
  std::vector<KnownGrid> grids_;
  std::vector<Candidate> candidates_;
  PlanResult result_;
  std::int64_t layouts_ = 0;
  std::int64_t pipelines_ = 0;
};

}  // namespace

PlanResult find_target_plan(const PlanRequest& request,
                            Framework target,
                            const Cluster& cluster,
                            const CostTable& costs) {
  const Stopwatch watch;
  PlanResult result = TargetSearch(request, target, cluster, costs).search();
  result.search_time = watch.elapsed();
  return result;
}

}  // namespace shardwise
