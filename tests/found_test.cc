// What people know how to do, found from cost alone: no template, no constraint, no hint. Small
// models on clusters whose links and memory make one way of training the best.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cost/modelled_table.h"
#include "models/model.h"
#include "planner/planner.h"
#include "report/plan_report.h"

namespace shardwise {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

struct Machine {
  int nodes = 1;
  int devices_of_node = 4;
  double node_rate = 300e9;
  double network_rate = 25e9;
  std::int64_t memory = 80'000'000'000;
};

Cluster cluster_of(const Machine& machine) {
  Cluster cluster;
  cluster.name = "machine";
  DeviceType type;
  type.name = "device";
  type.memory = Bytes(machine.memory);
  type.peak_fp32 = FlopsPerSecond(60e12);
  type.peak_bf16 = FlopsPerSecond(400e12);
  type.memory_bandwidth = BytesPerSecond(2e12);
  cluster.types = {type};
  cluster.groups = {{0, machine.nodes * machine.devices_of_node}};
  cluster.levels = {
      {"node", machine.devices_of_node, BytesPerSecond(machine.node_rate), Seconds(3e-6)},
      {"network", machine.nodes, BytesPerSecond(machine.network_rate), Seconds(15e-6)}};
  return cluster;
}

struct Shape {
  std::string type = "llama";
  int layers = 4;
  int hidden = 2048;
  int ffn = 8192;
  int heads = 16;
  int vocabulary = 32000;
  int experts = 0;
  std::int64_t sequence = 1024;
  std::int64_t batch = 8;
};

PlanRequest request_of(const Shape& shape) {
  const std::string experts =
      shape.experts > 0
          ? fmt::format(R"("num_local_experts": {}, "num_experts_per_tok": 2,)", shape.experts)
          : "";
  const ModelConfig model = parse_model_config(
      parse_json(fmt::format(R"({{"model_type": "{}", {} "vocab_size": {}, "hidden_size": {},
                      "intermediate_size": {}, "num_hidden_layers": {}, "num_attention_heads": {},
                      "num_key_value_heads": {}, "max_position_embeddings": 8192}})",
                             shape.type,
                             experts,
                             shape.vocabulary,
                             shape.hidden,
                             shape.ffn,
                             shape.layers,
                             shape.heads,
                             shape.heads),
                 "config.json"));
  PlanRequest request;
  request.graph = [model, sequence = shape.sequence](std::int64_t microbatch) {
    return build_graph(model, microbatch, sequence);
  };
  request.batch = shape.batch;
  request.sequence = shape.sequence;
  request.precision = Precision::kBFloat16;
  request.free_axes = 1;
  request.runner_ups = RunnerUps::kSkip;
  return request;
}

struct Found {
  Plan plan;
  Graph graph;
  Evaluation account;

  int last_layer() const { return static_cast<int>(graph.layers.size()) - 1; }
  // Mesh axes above one device on which op `name` of the layer shards one of these loop axes.
  std::int64_t degree(int layer, const std::string& name, const std::set<std::string>& axes) const {
    const LayerPlace place = place_of(plan, layer);
    const LayerPlan& chosen = layer_plan(plan, place);
    const Mesh& mesh = plan.stages[at(place.stage)].mesh;
    const Block& block = graph.block_of(layer);
    std::int64_t degree = 1;
    for (std::size_t o = 0; o < block.ops.size(); ++o) {
      for (std::size_t m = 0; block.ops[o].name == name && m < kMeshAxes; ++m) {
        const int axis = chosen.op_axes[o][m];
        if (axis != kUnassigned && axes.contains(block.ops[o].axes[at(axis)].name)) {
          degree *= mesh.sizes[m];
        }
      }
    }
    return degree;
  }
  const LayerPlan& layer(int number) const { return layer_plan(plan, place_of(plan, number)); }
  std::vector<int> decoders_of_stages() const {
    std::vector<int> counts;
    for (const StagePlan& stage : plan.stages) {
      int count = 0;
      for (const ChunkPlan& chunk : stage.chunks) {
        for (int number = chunk.first_layer; number < chunk.end_layer(); ++number) {
          count += number > 0 && number < last_layer() ? 1 : 0;
        }
      }
      counts.push_back(count);
    }
    return counts;
  }
};

std::optional<Found> find(const PlanRequest& request, const Machine& machine) {
  const Cluster cluster = cluster_of(machine);
  const ModelledTable costs(cluster);
  const PlanResult result = find_plan(request, cluster, costs);
  if (!result.plan) {
    return std::nullopt;
  }
  EXPECT_EQ(result.stop_reason, StopReason::kOptimal);
  Found found{*result.plan, request.graph(result.plan->microbatch()), {}};
  found.account = evaluate(found.plan, found.graph, cluster, costs);
  return found;
}

// The plan on less and less memory, until `holds`; the last one that fits otherwise.
std::optional<Found> find_while_memory_shrinks(const PlanRequest& request,
                                               Machine machine,
                                               const std::function<bool(const Found&)>& holds) {
  std::optional<Found> last;
  for (int step = 0; step < 24; ++step) {
    std::optional<Found> found = find(request, machine);
    if (!found) {
      return last;
    }
    last = std::move(found);
    if (holds(*last)) {
      return last;
    }
    Bytes most{0};
    for (const StageMemory& memory : last->account.stage_memory) {
      most = std::max(most, memory.total());
    }
    machine.memory = most.count - most.count / 25;
  }
  return last;
}

// One sequence, heavy weights, fast links: columns then rows of both halves of a block, one
// reduction each (Shoeybi et al., 2019).
TEST(Found, MegatronsBlockShardingOnAFastNode) {
  Shape shape;
  shape.batch = 1;
  shape.sequence = 512;
  const auto found = find(request_of(shape), {});
  ASSERT_TRUE(found);
  SCOPED_TRACE(plan_strip(found->plan, found->graph));
  for (int layer = 1; layer < found->last_layer(); ++layer) {
    for (const char* op :
         {"attention.q", "attention.k", "attention.v", "attention.core", "attention.o"}) {
      EXPECT_EQ(found->degree(layer, op, {"n"}), 4) << op;
    }
    for (const char* op : {"mlp.gate", "mlp.up", "mlp.down"}) {
      EXPECT_EQ(found->degree(layer, op, {"f"}), 4) << op;
    }
  }
}

// Norms and residuals shard the sequence between the tensor-parallel parts (Korthikanti et al.).
TEST(Found, SequenceShardingWhenMemoryIsTight) {
  Shape shape;
  shape.batch = 1;
  shape.sequence = 4096;
  const auto shards = [](const Found& found) {
    bool all = true;
    for (int layer = 1; layer < found.last_layer(); ++layer) {
      all = all && found.degree(layer, "attention.core", {"n"}) > 1 &&
            found.degree(layer, "mlp.norm", {"s"}) > 1;
    }
    return all;
  };
  const auto found = find_while_memory_shrinks(request_of(shape), {}, shards);
  ASSERT_TRUE(found);
  SCOPED_TRACE(plan_strip(found->plan, found->graph));
  EXPECT_TRUE(shards(*found));
}

// Weights too large to repeat, links too slow to cut tensors, one layer that no pipeline can cut:
// replicas share out their state.
TEST(Found, ZeroOverSlowLinks) {
  Shape shape;
  shape.batch = 32;
  shape.vocabulary = 2000;
  shape.layers = 1;
  const Machine machine{4, 1, 300e9, 10e9, 80'000'000'000};
  const auto shares = [](const Found& found) {
    bool all = found.plan.num_stages() == 1;
    for (int layer = 1; layer < found.last_layer(); ++layer) {
      all = all && found.degree(layer, "attention.core", {"b"}) == 4 &&
            found.layer(layer).state_sharding != StateSharding::kNone;
    }
    return all;
  };
  const auto found = find_while_memory_shrinks(request_of(shape), machine, shares);
  ASSERT_TRUE(found);
  SCOPED_TRACE(plan_strip(found->plan, found->graph));
  EXPECT_TRUE(shares(*found));
}

TEST(Found, ExpertParallelismForMixtral) {
  Shape shape;
  shape.type = "mixtral";
  shape.experts = 8;
  shape.layers = 2;
  shape.batch = 8;
  shape.hidden = 1024;
  shape.ffn = 4096;
  const auto spreads = [](const Found& found) {
    bool all = true;
    for (int layer = 1; layer < found.last_layer(); ++layer) {
      all = all && found.degree(layer, "experts", {"xb", "e", "xs"}) > 1;
    }
    return all;
  };
  const auto found = find_while_memory_shrinks(request_of(shape), {}, spreads);
  ASSERT_TRUE(found);
  SCOPED_TRACE(plan_strip(found->plan, found->graph));
  EXPECT_TRUE(spreads(*found));
}

TEST(Found, PipelineCutOnTheSlowLink) {
  Shape shape;
  shape.layers = 6;
  shape.batch = 16;
  const auto found = find(request_of(shape), {2, 2, 300e9, 1e9, 80'000'000'000});
  ASSERT_TRUE(found);
  SCOPED_TRACE(plan_strip(found->plan, found->graph));
  // Whatever the stages are, none straddles the nodes.
  EXPECT_GE(found->plan.num_stages(), 2);
  for (const StagePlan& stage : found->plan.stages) {
    for (const int device : stage.devices) {
      EXPECT_EQ(device / 2, stage.devices.front() / 2);
    }
  }
}

// The head of a large vocabulary weighs as much as layers; embedding and micro-batches in flight
// fill the first stage's memory.
TEST(Found, FewerLayersOnTheFirstAndLastStageForLargeVocabularies) {
  Shape shape;
  shape.layers = 10;
  shape.hidden = 1024;
  shape.ffn = 4096;
  shape.heads = 8;
  shape.vocabulary = 64000;
  shape.batch = 8;
  PlanRequest request = request_of(shape);
  request.microbatch_counts = {8};
  const auto fewer = [](const Found& found) {
    const std::vector<int> counts = found.decoders_of_stages();
    if (counts.size() < 3) {
      return false;
    }
    const int inside = *std::max_element(counts.begin() + 1, counts.end() - 1);
    return counts.front() < inside && counts.back() < inside;
  };
  const auto found =
      find_while_memory_shrinks(request, {4, 1, 300e9, 0.5e9, 80'000'000'000}, fewer);
  ASSERT_TRUE(found);
  SCOPED_TRACE(plan_strip(found->plan, found->graph));
  EXPECT_TRUE(fewer(*found));
}

TEST(Found, NonUniformRecomputationAtATightLimit) {
  Shape shape;
  shape.layers = 6;
  shape.batch = 4;
  const auto differs = [](const Found& found) {
    std::set<Recompute> kinds;
    for (int layer = 1; layer < found.last_layer(); ++layer) {
      kinds.insert(found.layer(layer).recompute);
    }
    return kinds.size() > 1;
  };
  const auto found =
      find_while_memory_shrinks(request_of(shape), {1, 2, 300e9, 25e9, 80'000'000'000}, differs);
  ASSERT_TRUE(found);
  SCOPED_TRACE(plan_strip(found->plan, found->graph));
  EXPECT_TRUE(differs(*found));
}

}  // namespace
}  // namespace shardwise
