#include "cost/required_measurements.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "cost/evaluate.h"
#include "cost/measured_table.h"
#include "cost/test_models.h"

namespace shardwise {
namespace {

using test::small_cluster;
using test::small_model;

constexpr std::int64_t kBatch = 4;
constexpr int kRanks = 4;

RequiredMeasurements required_for(int ranks) {
  return required_measurements([](std::int64_t b) { return small_model(b, 2, true); },
                               kBatch,
                               Precision::kFloat32,
                               small_cluster(1, ranks),
                               ranks,
                               2);
}

// A table with made-up times for exactly what is asked for, ranges by their ends.
MeasuredTable measure(const RequiredMeasurements& required) {
  MeasuredTable table;
  const Seconds time(1e-3);
  for (const RequiredOp& op : required.ops) {
    for (const Direction direction : op.directions) {
      table.ops.push_back({op.key, direction, 0, time, 0});
    }
  }
  for (const RequiredCollective& c : required.collectives) {
    for (const Bytes payload : {c.smallest, c.largest}) {
      table.collectives.push_back({c.kind, c.precision, c.placement, payload, time, 0});
    }
  }
  for (const RequiredTransfer& t : required.transfers) {
    for (const Bytes size : {t.smallest, t.largest}) {
      table.transfers.push_back({t.level, t.concurrent, size, time, 0});
    }
  }
  for (const std::int64_t elements : {required.smallest_update, required.largest_update}) {
    table.optimizer.push_back({elements, Precision::kFloat32, 0, time, 0});
  }
  for (const Bytes size : {required.smallest_accumulation, required.largest_accumulation}) {
    table.accumulate.push_back({size, 0, time, 0});
  }
  for (const int ranks : required.rank_counts) {
    table.step_overhead.push_back({ranks, time});
  }
  table.overlap_fraction = {0.5};
  return table;
}

// Random assignments and layouts on a random mesh; the caller keeps valid ones.
LayerPlan random_layer(const Block& block, const Mesh& mesh, std::mt19937& random) {
  const auto pick = [&](std::size_t n) { return random() % n; };
  LayerPlan plan = test::plain_layer(block, mesh);
  for (std::size_t o = 0; o < block.ops.size(); ++o) {
    for (std::size_t m = 1; m < kMeshAxes; ++m) {
      if (mesh.sizes[m] > 1) {
        plan.op_axes[o][m] =
            static_cast<std::int8_t>(static_cast<int>(pick(block.ops[o].axes.size() + 1)) - 1);
      }
    }
  }
  if (block.name == "head") {
    // Conversions of logits are not asked for: the loss takes them as the linear leaves them.
    const Op& linear = block.ops[1];
    for (std::size_t m = 1; m < kMeshAxes; ++m) {
      std::int8_t& axis = plan.op_axes[1][m];
      const std::string name =
          axis == kUnassigned ? "" : linear.axes[static_cast<std::size_t>(axis)].name;
      axis = name == "h" ? static_cast<std::int8_t>(kUnassigned) : axis;
      plan.op_axes[2][m] = static_cast<std::int8_t>(
          axis == kUnassigned ? kUnassigned : axis_index(block.ops[2], name));
    }
  }
  plan.state_sharding = static_cast<StateSharding>(pick(4));
  plan.recompute = static_cast<Recompute>(pick(3));
  return plan;
}

TEST(RequiredMeasurements, CoverEveryPlanOfTheModel) {
  const RequiredMeasurements required = required_for(kRanks);
  const MeasuredCostTable table{measure(required)};
  const Cluster cluster = small_cluster(1, kRanks);
  std::mt19937 random(11);
  const std::vector<Mesh> meshes = {{{1, 1, 1}}, {{2, 1, 1}}, {{1, 2, 1}}};
  const std::vector<Mesh> wide = {{{4, 1, 1}}, {{2, 2, 1}}, {{1, 4, 1}}, {{1, 2, 2}}, {{1, 3, 1}}};
  int valid = 0;
  for (int round = 0; round < 4000; ++round) {
    const bool two_stages = random() % 2 == 0;
    const int microbatches = 1 << random() % 3;
    const Graph graph = small_model(kBatch / microbatches, 2, true);
    const Mesh mesh = two_stages ? meshes[random() % meshes.size()] : wide[random() % wide.size()];
    Plan plan = test::staged_plan(graph,
                                  kBatch,
                                  microbatches,
                                  mesh,
                                  two_stages ? std::vector<int>{0, 2, 4} : std::vector<int>{0, 4});
    for (StagePlan& stage : plan.stages) {
      int layer = stage.chunks[0].first_layer;
      for (LayerPlan& layer_plan : stage.chunks[0].layers) {
        layer_plan = random_layer(graph.block_of(layer++), mesh, random);
      }
    }
    if (!plan_violations(plan, graph).empty()) {
      continue;
    }
    ++valid;
    EXPECT_FALSE(evaluate(plan, graph, cluster, table).extrapolated) << round;
  }
  EXPECT_GT(valid, 300);
}

TEST(RequiredMeasurements, OneRankNeedsNoNetwork) {
  const RequiredMeasurements required = required_for(1);
  EXPECT_TRUE(required.collectives.empty());
  EXPECT_TRUE(required.transfers.empty());
  EXPECT_FALSE(required.ops.empty());
}

TEST(RequiredMeasurements, EveryOpIsListedOnceAndMatchesItsKey) {
  std::set<OpKey> seen;
  for (const RequiredOp& required : required_for(2).ops) {
    EXPECT_TRUE(seen.insert(required.key).second) << to_string(required.key);
    EXPECT_EQ(op_key(required.op, required.sizes, Precision::kFloat32), required.key);
    for (std::size_t a = 0; a < required.sizes.size(); ++a) {
      EXPECT_EQ(required.op.axes[a].size, required.sizes[a]);
    }
  }
}

TEST(RequiredMeasurements, ExpertsKeepTheirPairsHoweverTheyAreSharded) {
  const auto graph = [](std::int64_t microbatch) {
    Graph moe = small_model(microbatch, 0);
    BlockBuilder build("moe", microbatch, test::kSequence);
    const TensorIndex x = build.boundary_input(test::kWidth);
    const auto routing = build.router("router", x, 4, 2, true, 0.02);
    build.boundary_output(build.experts("experts", x, routing, 4, 8, "silu", 0.02, 0.02));
    moe.blocks.push_back(std::move(build).build());
    moe.layers.insert(moe.layers.begin() + 1, {"moe", "moe.", 3});
    return moe;
  };
  const RequiredMeasurements required =
      required_measurements(graph, 2, Precision::kFloat32, small_cluster(1, 4), 4, 2);
  int experts = 0;
  for (const RequiredOp& op : required.ops) {
    EXPECT_EQ(op_key(op.op, op.sizes, Precision::kFloat32), op.key) << to_string(op.key);
    experts += op.key.kind == OpKind::kExperts ? 1 : 0;
  }
  EXPECT_GT(experts, 4);
}

}  // namespace
}  // namespace shardwise
