#include "planner/methods/piper_plan.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include "planner/methods/best_plan.h"
#include "planner/methods/layer_strategies.h"
#include "planner/methods/piper.h"
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

Mesh mesh_of(int data, int tensor) {
  Mesh mesh;
  mesh.sizes = {data, tensor, 1};
  return mesh;
}

LayerStrategy strategy_of(int tensor, Recompute recompute) {
  return {tensor > 1 ? GridRole::kTensor : GridRole::kNone, StateSharding::kNone, recompute};
}

class PiperSearch {
 public:
  PiperSearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request), cluster_(cluster), costs_(costs), best_(request, cluster) {
    for (const Recompute mode : {Recompute::kNone, Recompute::kFull}) {
      if (allows(request.limits.recomputes, mode)) {
        recomputes_.push_back(mode);
      }
    }
  }

  PlanResult search() {
    return best_.run([this] { search_all(); }, "Piper's stages and degrees");
  }

 private:
  void search_all() {
    if (cluster_.types.size() > 1 || !best_.allows(Schedule::k1F1B) ||
        !allows(request_.limits.state_shardings, StateSharding::kNone)) {
      return;
    }
    constexpr std::size_t kMostLayers = 256;  // piper.h
    if (request_.graph(1).layers.size() > kMostLayers) {
      return;
    }
    const std::vector<int> counts = planning::microbatch_counts(request_);
    for (std::int64_t grain = 1; grain <= request_.batch; ++grain) {
      if (request_.batch % grain == 0) {
        try_grain(grain, counts);
      }
    }
  }

  // `grain`: sequences that one replica takes at a time.
  void try_grain(std::int64_t grain, const std::vector<int>& counts) {
    best_.deadline().check();
    PiperProblem problem = problem_of(grain);
    const double whole = problem.memory_bytes;
    for (int tries = 0; tries < kMostTries && problem.memory_bytes > 0; ++tries) {
      const PiperResult found = find_piper_plan(problem);
      if (!found.plan) {
        return;
      }
      int common = 1;
      for (const PiperStage& stage : found.plan->stages) {
        common = std::lcm(common, stage.data);
      }
      const std::int64_t microbatch = grain * common;
      if (request_.batch % microbatch != 0) {
        return;
      }
      const auto count = static_cast<int>(request_.batch / microbatch);
      if (std::find(counts.begin(), counts.end(), count) == counts.end()) {
        return;
      }
      const std::optional<Bytes> missing = try_plan(*found.plan, microbatch, count);
      if (!missing || *missing <= Bytes(0)) {
        return;
      }
      // Small steps: what is missing may come from few stages.
      problem.memory_bytes -= std::max(static_cast<double>(missing->count), whole / 64);
    }
  }

  PiperProblem problem_of(std::int64_t grain) const {
    const Graph graph = request_.graph(grain);
    const int layers = static_cast<int>(graph.layers.size());
    const DeviceType& type = cluster_.types.front();
    PiperProblem problem;
    problem.devices = cluster_.num_devices();
    problem.memory_bytes =
        static_cast<double>((type.memory - type.reserve - costs_.process_memory()).count);
    problem.bandwidth = cluster_.levels.back().bandwidth.count;
    problem.microbatches = static_cast<int>(request_.batch / grain);
    problem.nodes.resize(at(layers));
    for (int layer = 0; layer < layers; ++layer) {
      PiperNode& node = problem.nodes[at(layer)];
      node.id = layer;
      node.name = graph.layers[at(layer)].name;
      if (layer > 0) {
        node.edges_in.push_back(layer - 1);
      }
      if (layer + 1 < layers) {
        node.edges_out.push_back(layer);
        const Block& block = graph.block_of(layer);
        const Tensor& tensor = block.tensors[at(block.outputs[0])];
        const double elements = std::accumulate(
            tensor.shape.begin(), tensor.shape.end(), 1.0, [](double product, std::int64_t size) {
              return product * static_cast<double>(size);
            });
        problem.edges.push_back(
            {layer,
             layer + 1,
             elements * static_cast<double>(element_bytes(tensor.type, request_.precision))});
      }
    }
    const int node_size = cluster_.levels.front().size;
    const int most = request_.free_axes > 0 ? std::min(node_size, problem.devices) : 1;
    for (int tensor = 1; tensor <= most; ++tensor) {
      if (node_size % tensor == 0) {
        LayerStrategies strategies(graph, mesh_of(1, tensor), request_.precision, cluster_, costs_);
        for (int layer = 0; layer < layers; ++layer) {
          add_degree(strategies, layer, tensor, problem.nodes[at(layer)]);
        }
      }
    }
    return problem;
  }

  void add_degree(LayerStrategies& strategies, int layer, int tensor, PiperNode& node) const {
    PiperDegree degree;
    degree.tensor = tensor;
    for (const Recompute mode : recomputes_) {
      const LayerStrategy strategy = strategy_of(tensor, mode);
      if (!strategies.plan(layer, strategy)) {
        return;
      }
      const LayerPrice& price = strategies.price(layer, strategy, strategy, true);
      PiperImplementation one;
      one.id = mode == Recompute::kNone ? "vanilla" : "activation recomp";
      one.time_s = to_seconds(planning::microbatch_time(price)).count;
      one.parameter_bytes = static_cast<double>(price.gradients.count);
      one.memory_slope_bytes = static_cast<double>(price.saved.count);
      one.memory_base_bytes = static_cast<double>(planning::state_bytes(price).count);
      one.sync_in_bytes.assign(node.edges_in.size(), 0);
      one.sync_out_bytes.assign(node.edges_out.size(), 0);
      degree.implementations.push_back(std::move(one));
    }
    if (!degree.implementations.empty()) {
      node.degrees.push_back(std::move(degree));
    }
  }

  // Bytes that the fullest device lacks; nothing if it cannot be run as a plan.
  std::optional<Bytes> try_plan(const PiperPlan& found, std::int64_t microbatch, int count) {
    const Graph graph = request_.graph(microbatch);
    Evaluator evaluator(graph, cluster_, costs_);
    std::map<std::pair<int, int>, std::unique_ptr<LayerStrategies>> known;
    std::vector<StrategyStage> stages;
    int start = 0;
    for (const PiperStage& from : found.stages) {
      std::unique_ptr<LayerStrategies>& strategies = known[{from.data, from.tensor}];
      if (strategies == nullptr) {
        strategies = std::make_unique<LayerStrategies>(
            graph, mesh_of(from.data, from.tensor), request_.precision, cluster_, costs_);
      }
      StrategyStage& stage = stages.emplace_back();
      stage.strategies = strategies.get();
      stage.start = start;
      start += from.data * from.tensor;
      for (std::size_t i = 0; i < from.nodes.size(); ++i) {
        const LayerStrategy strategy =
            strategy_of(from.tensor, recomputes_[at(from.implementations[i])]);
        if (!strategies->plan(from.nodes[i], strategy)) {
          return std::nullopt;
        }
        stage.layers.push_back(strategy);
      }
    }
    const SpaceLimits& limits = request_.limits;
    for (const StrategyStage& stage : stages) {
      const Mesh& mesh = stage.strategies->mesh();
      if ((limits.max_data_degree > 0 && mesh.sizes[0] > limits.max_data_degree) ||
          (limits.max_stage_devices > 0 && mesh.devices() > limits.max_stage_devices)) {
        return std::nullopt;
      }
    }
    if (limits.max_stages > 0 && static_cast<int>(stages.size()) > limits.max_stages) {
      return std::nullopt;
    }
    const Plan plan = planning::plan_of_stages(request_, count, Schedule::k1F1B, stages);
    const Evaluation evaluation = best_.judge(plan, graph, evaluator);
    Bytes missing{0};
    for (const StageMemory& memory : evaluation.stage_memory) {
      missing = std::max(missing, memory.total() - memory.limit);
    }
    return missing;
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  BestPlan best_;
  std::vector<Recompute> recomputes_;
};

}  // namespace

PlanResult find_piper_graph_plan(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs) {
  return PiperSearch(request, cluster, costs).search();
}

}  // namespace shardwise
