#include "planner/block_costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "cost/evaluate.h"
#include "cost/fake_table.h"
#include "cost/stage_prices.h"
#include "planner/tiny_models_testing.h"

namespace shardwise::planning {
namespace {

using ::shardwise::testing::TinyModel;

FakeTable uneven_table() {
  FakeTable table;
  table.op_launch_ps = 17;
  table.collective_latency_ps = 5;
  table.accumulate_ps_per_byte = 2;
  table.overlap = 0.3;
  return table;
}

Cluster two_nodes_of_four() {
  Cluster cluster;
  cluster.types.resize(1);
  cluster.groups = {{0, 8}};
  cluster.levels = {{"node", 4, {}, {}}, {"network", 2, {}, {}}};
  return cluster;
}

// One complete layer: its account by BlockCosts, summed up, and by cost's price_layer.
class Layer {
 public:
  Layer(const BlockCosts& costs, std::mt19937& random) : costs_(costs), random_(random) {
    for (int o = 0; o < costs.num_ops(); ++o) {
      choices_.push_back(pick(costs.choices(o).size()));
    }
    input_ = pick(costs.inputs().size());
    output_ = pick(costs.outputs().size());
    mode_.sharding = static_cast<StateSharding>(pick(4));
    mode_.recompute = static_cast<Recompute>(pick(3));
  }

  LayerPlan plan() const {
    LayerPlan plan;
    for (int o = 0; o < costs_.num_ops(); ++o) {
      plan.op_axes.push_back(
          costs_.choices(o)[static_cast<std::size_t>(choices_[static_cast<std::size_t>(o)])]);
    }
    plan.input_layout = costs_.inputs()[static_cast<std::size_t>(input_)];
    plan.state_sharding = mode_.sharding;
    plan.recompute = mode_.recompute;
    return plan;
  }
  const Layout& output() const { return costs_.outputs()[static_cast<std::size_t>(output_)]; }

  Closing close(TensorIndex t) const {
    std::vector<UseClassId> uses;
    for (const BlockCosts::TensorUse& use : costs_.uses(t)) {
      uses.push_back(
          costs_.use_class(use.op, use.input, choices_[static_cast<std::size_t>(use.op)]));
    }
    if (costs_.is_output(t)) {
      uses.push_back(costs_.output_class(output_));
    }
    std::sort(uses.begin(), uses.end());
    const int producer = costs_.producer(t);
    const int choice = producer < 0 ? input_ : choices_[static_cast<std::size_t>(producer)];
    const Closing closing = costs_.close(t, choice, uses, mode_.recompute);
    check_shares(t, choice, uses, closing);
    return closing;
  }

  // The relaxation never exceeds the truth.
  void check_shares(TensorIndex t,
                    int choice,
                    const std::vector<UseClassId>& uses,
                    const Closing& closing) const {
    BlockCosts::Share sum;
    for (const UseClassId use : uses) {
      const BlockCosts::Share share = costs_.share(t, choice, use, mode_.recompute);
      sum.possible &= share.possible;
      sum.forward += share.forward;
      sum.backward += share.backward;
      sum.saved += share.saved;
    }
    EXPECT_TRUE(sum.possible || !closing.possible);
    if (closing.possible) {
      EXPECT_LE(sum.forward, static_cast<double>(closing.cost.forward) + 1e-6);
      EXPECT_LE(sum.backward, static_cast<double>(closing.cost.backward) + 1e-6);
      EXPECT_LE(sum.saved, static_cast<double>(closing.cost.saved) + 1e-6);
    }
  }

  // False if padding forbids a conversion.
  bool sum(Cost& total, bool& saves_input, bool& saves_output) const {
    for (int o = 0; o < costs_.num_ops(); ++o) {
      total += costs_.op_cost(o, choices_[static_cast<std::size_t>(o)], mode_);
    }
    for (TensorIndex t = 0; t < static_cast<int>(costs_.block().tensors.size()); ++t) {
      if (!costs_.has_cost(t)) {
        continue;
      }
      const Closing closing = close(t);
      if (!closing.possible) {
        return false;
      }
      total += closing.cost;
      saves_input |= costs_.producer(t) < 0 && closing.keeps_produced;
      saves_output |= closing.keeps_output;
    }
    return true;
  }

 private:
  int pick(std::size_t count) {
    return static_cast<int>(std::uniform_int_distribution<std::size_t>(0, count - 1)(random_));
  }

  const BlockCosts& costs_;
  std::mt19937& random_;
  std::vector<int> choices_;
  int input_ = 0;
  int output_ = 0;
  Mode mode_;
};

void expect_same_account(const Graph& graph, const Mesh& mesh, int layers, std::mt19937& random) {
  const Cluster cluster = two_nodes_of_four();
  StagePlan stage;
  stage.mesh = mesh;
  for (int i = 0; i < mesh.devices(); ++i) {
    stage.devices.push_back(i);
  }
  const FakeTable table = uneven_table();
  const StageShape shape = shape_of(cluster, stage.devices, mesh);
  const internal::Surroundings around = internal::surroundings_of(cluster, stage);
  for (const Block& block : graph.blocks) {
    const BlockCosts costs(block, shape, Precision::kBFloat16, table, {}, {});
    ASSERT_TRUE(costs.is_possible());
    for (int i = 0; i < layers; ++i) {
      const Layer layer(costs, random);
      Cost total;
      bool saves_input = false;
      bool saves_output = false;
      if (!layer.sum(total, saves_input, saves_output)) {
        continue;
      }
      const internal::LayerPrice price = internal::price_layer(
          block, layer.plan(), layer.output(), Precision::kBFloat16, around, {}, table);
      EXPECT_EQ(total.forward,
                (price.forward + price.forward_collectives + price.forward_gather).count);
      EXPECT_EQ(
          total.backward,
          (price.recompute + price.backward + price.backward_collectives + price.backward_state)
              .count);
      EXPECT_EQ(total.per_step,
                (price.exposed_reduction + price.optimizer + price.parameter_gather).count);
      EXPECT_EQ(total.state, (price.weights + price.gradients + price.optimizer_state).count);
      EXPECT_EQ(total.saved, price.saved.count);
      EXPECT_EQ(saves_input, price.saves_input);
      EXPECT_EQ(saves_output, price.saves_output);
    }
  }
}

Graph graph_of(TinyModel model, std::int64_t vocabulary) {
  model.vocabulary = vocabulary;
  return ::shardwise::testing::tiny_graph(model);
}

TEST(BlockCosts, AddUpToTheEvaluatorsPriceOfALayer) {
  std::mt19937 random(7);
  for (const Mesh& mesh : {Mesh{{1, 1, 1}},
                           Mesh{{2, 1, 1}},
                           Mesh{{1, 2, 1}},
                           Mesh{{2, 2, 1}},
                           Mesh{{1, 2, 2}},
                           Mesh{{2, 2, 2}},
                           Mesh{{1, 4, 2}}}) {
    SCOPED_TRACE(to_string(mesh));
    for (const std::int64_t vocabulary : {64, 50}) {
      expect_same_account(
          graph_of(::shardwise::testing::tiny_gpt2(), vocabulary), mesh, 60, random);
      expect_same_account(
          graph_of(::shardwise::testing::tiny_llama(), vocabulary), mesh, 60, random);
      expect_same_account(
          graph_of(::shardwise::testing::tiny_mixtral(), vocabulary), mesh, 60, random);
    }
  }
}

}  // namespace
}  // namespace shardwise::planning
