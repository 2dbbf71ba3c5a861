#include "planner/methods/uniap_plan.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "planner/methods/best_plan.h"
#include "planner/methods/layer_strategies.h"
#include "planner/methods/uniap.h"
#include "planner/microbatches.h"

namespace shardwise {

namespace {

using internal::LayerPrice;
using planning::BestPlan;
using planning::GridRole;
using planning::LayerStrategies;
using planning::LayerStrategy;
using planning::StrategyStage;

constexpr int kMostTries = 6;  // with less and less memory

std::size_t at(int index) { return static_cast<std::size_t>(index); }

template <typename Value>
bool allows(const std::vector<Value>& allowed, Value value) {
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

class UniapSearch {
 public:
  UniapSearch(const PlanRequest& request,
              const Cluster& cluster,
              const CostTable& costs,
              UniapSpace space)
      : request_(request),
        cluster_(cluster),
        costs_(costs),
        space_(space),
        best_(request, cluster) {}

  PlanResult search() {
    return best_.run([this] { search_all(); }, "UniAP's stages and strategies");
  }

 private:
  void search_all() {
    if (cluster_.types.size() > 1 || !best_.allows(Schedule::kGpipe)) {
      return;
    }
    const int devices = cluster_.num_devices();
    const int most_stages = space_ == UniapSpace::kIntraOnly ? 1 : devices;
    for (const int count : planning::microbatch_counts(request_)) {
      graph_ = std::make_unique<Graph>(request_.graph(request_.batch / count));
      evaluator_ = std::make_unique<Evaluator>(*graph_, cluster_, costs_);
      for (int stages = 1; stages <= most_stages; ++stages) {
        const bool is_pair = stages == 1 ? count == 1 : count >= 2;
        const int limit = request_.limits.max_stages;
        if (devices % stages == 0 && is_pair && (limit == 0 || stages <= limit) &&
            stages <= static_cast<int>(graph_->layers.size())) {
          try_pair(stages, count);
        }
      }
      evaluator_.reset();
    }
  }

  void try_pair(int stages, int count) {
    const int size = cluster_.num_devices() / stages;
    const int most = request_.free_axes > 0 ? size : 1;
    for (int tensor = 1; tensor <= most; ++tensor) {
      const int data = size / tensor;
      const SpaceLimits& limits = request_.limits;
      if (size % tensor == 0 && graph_->microbatch % data == 0 &&
          (limits.max_stage_devices == 0 || size <= limits.max_stage_devices) &&
          (limits.max_data_degree == 0 || data <= limits.max_data_degree)) {
        Mesh mesh;
        mesh.sizes = {data, tensor, 1};
        strategies_ =
            std::make_unique<LayerStrategies>(*graph_, mesh, request_.precision, cluster_, costs_);
        try_mesh(stages, count);
      }
    }
  }

  std::vector<LayerStrategy> strategies_of(int layer) const {
    const Mesh& mesh = strategies_->mesh();
    std::vector<GridRole> roles = {GridRole::kNone};
    if (mesh.sizes[1] > 1) {
      roles = {GridRole::kTensor};
      if (request_.limits.batch_on_free_axes == SpaceLimits::BatchOnFreeAxes::kAllowed) {
        roles.push_back(GridRole::kData);
      }
    }
    std::vector<LayerStrategy> all;
    for (const GridRole role : roles) {
      const bool shares = mesh.sizes[0] > 1 || role == GridRole::kData;
      for (const StateSharding state : {StateSharding::kNone, StateSharding::kParameters}) {
        const LayerStrategy one{role, state, Recompute::kNone};
        if ((shares || state == StateSharding::kNone) &&
            allows(request_.limits.state_shardings, state) && strategies_->plan(layer, one)) {
          all.push_back(one);
        }
      }
    }
    return all;
  }

  void try_mesh(int stages, int count) {
    best_.deadline().check();
    const int layers = static_cast<int>(graph_->layers.size());
    std::vector<std::vector<LayerStrategy>> choices;
    std::size_t common = SIZE_MAX;
    for (int layer = 0; layer < layers; ++layer) {
      choices.push_back(strategies_of(layer));
      common = std::min(common, choices.back().size());
    }
    if (common == 0) {
      return;
    }
    UniapProblem problem;
    problem.stages = stages;
    problem.microbatches = count;
    problem.space = space_;
    Picoseconds least{0};  // of a micro-batch
    for (int layer = 0; layer < layers; ++layer) {
      add_layer(choices, layer, problem, least);
    }
    // GPipe takes at least the mean stage for each further micro-batch.
    if (least.count + (count - 1) * (least.count / stages) >= best_.cutoff().count) {
      return;
    }
    const DeviceType& type = cluster_.types.front();
    problem.memory = type.memory - type.reserve - costs_.process_memory();
    for (int tries = 0; tries < kMostTries && problem.memory > Bytes(0); ++tries) {
      const UniapResult found = solve_uniap_exactly(
          problem, {0, Seconds(best_.deadline().seconds_left()), request_.stop});
      if (!found.plan) {
        return;
      }
      const Evaluation evaluation =
          best_.judge(plan_of(*found.plan, choices, stages, count), *graph_, *evaluator_);
      Bytes missing{0};
      for (const StageMemory& memory : evaluation.stage_memory) {
        missing = std::max(missing, memory.total() - memory.limit);
      }
      if (missing <= Bytes(0)) {
        return;
      }
      problem.memory -= missing;
    }
  }

  // The layer's strategies, and its edge to the next one: what the conversion adds to the least.
  void add_layer(const std::vector<std::vector<LayerStrategy>>& choices,
                 int layer,
                 UniapProblem& problem,
                 Picoseconds& least) {
    const bool has_stages = problem.stages > 1;
    const bool is_last = at(layer + 1) == choices.size();
    const std::vector<LayerStrategy>& own = choices[at(layer)];
    const std::vector<LayerStrategy>& next = choices[at(is_last ? layer : layer + 1)];
    std::vector<UniapStrategy> strategies;
    UniapEdge edge;
    edge.source = layer;
    edge.target = layer + 1;
    Picoseconds least_here{INT64_MAX};
    for (const LayerStrategy& strategy : own) {
      std::vector<Picoseconds> times;
      UniapStrategy one;
      Picoseconds rest{0};
      for (const LayerStrategy& after : next) {
        const LayerPrice& price = strategies_->price(layer, strategy, after, has_stages);
        times.push_back(planning::microbatch_time(price));
        one.memory =
            std::max(one.memory, planning::state_bytes(price) + problem.microbatches * price.saved);
        rest = Picoseconds(planning::step_time(price).count / problem.microbatches);
      }
      const Picoseconds base = *std::min_element(times.begin(), times.end());
      least_here = std::min(least_here, base);
      one.time = base + rest;
      strategies.push_back(one);
      std::vector<Picoseconds> crossing;
      for (std::size_t k = 0; k < times.size(); ++k) {
        times[k] -= base;
        crossing.push_back(times[k] +
                           (has_stages ? strategies_->transfer(next[k]) : Picoseconds(0)));
      }
      edge.same_stage.push_back(std::move(times));
      edge.next_stage.push_back(std::move(crossing));
    }
    least += least_here;
    problem.layers.push_back(std::move(strategies));
    if (!is_last) {
      problem.edges.push_back(std::move(edge));
    }
  }

  Plan plan_of(const UniapPlan& found,
               const std::vector<std::vector<LayerStrategy>>& choices,
               int stages,
               int count) {
    std::vector<StrategyStage> parts(at(stages));
    for (int s = 0; s < stages; ++s) {
      parts[at(s)].strategies = strategies_.get();
      parts[at(s)].start = s * strategies_->mesh().devices();
    }
    for (std::size_t u = 0; u < choices.size(); ++u) {
      parts[at(found.stage[u])].layers.push_back(choices[u][at(found.strategy[u])]);
    }
    return planning::plan_of_stages(request_, count, Schedule::kGpipe, parts);
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const UniapSpace space_;
  BestPlan best_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Evaluator> evaluator_;
  std::unique_ptr<LayerStrategies> strategies_;
};

}  // namespace

PlanResult find_uniap_plan(const PlanRequest& request,
                           const Cluster& cluster,
                           const CostTable& costs) {
  return UniapSearch(request, cluster, costs, UniapSpace::kJoint).search();
}

PlanResult find_uniap_inter_plan(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs) {
  return UniapSearch(request, cluster, costs, UniapSpace::kInterOnly).search();
}

PlanResult find_uniap_intra_plan(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs) {
  return UniapSearch(request, cluster, costs, UniapSpace::kIntraOnly).search();
}

}  // namespace shardwise
