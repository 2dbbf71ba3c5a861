#include "planner/block_costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "cost/evaluate.h"
#include "cost/fake_table.h"
#include "cost/stage_prices.h"
#include "planner/block_pool.h"
#include "planner/option_search.h"
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

// The bound of all modes at once is the least of their sums.
void expect_least_sums(const BlockCosts& costs, BlockPool& pool, std::mt19937& random) {
  std::vector<Mode> modes;
  for (int mode = 0; mode < 12; ++mode) {
    modes.push_back({static_cast<StateSharding>(mode % 4), static_cast<Recompute>(mode / 4), {}});
  }
  BlockRelaxation relaxation(costs, pool.eliminations());
  const double memory = std::pow(10.0, static_cast<double>(random() % 6) - 3);
  const Weights weights{
      1, 0.25, random() % 4 == 0 ? 0 : memory, 1 + static_cast<int>(random() % 4)};
  const BlockBound bound = bound_block(costs, relaxation, modes, weights);
  std::vector<double> least(bound.minimum.values.size(), kForbidden);
  for (std::size_t m = 0; m < modes.size(); ++m) {
    const std::vector<double>& minimum = relaxation.sum(modes[m], weights).minimum();
    for (std::size_t i = 0; i < least.size(); ++i) {
      least[i] = std::min(least[i], minimum[i]);
      if (bound.mode[i] == static_cast<int>(m)) {
        EXPECT_DOUBLE_EQ(bound.minimum.values[i], minimum[i]);
      }
    }
  }
  for (std::size_t i = 0; i < least.size(); ++i) {
    EXPECT_DOUBLE_EQ(bound.minimum.values[i], least[i]);
  }
}

void expect_same_account(
    const Graph& graph, const Mesh& mesh, int layers, std::mt19937& random, BlockPool& pool) {
  const Cluster cluster = two_nodes_of_four();
  StagePlan stage;
  stage.mesh = mesh;
  for (int i = 0; i < mesh.devices(); ++i) {
    stage.devices.push_back(i);
  }
  const FakeTable table = uneven_table();
  const StageShape shape = shape_of(cluster, stage.devices, mesh);
  const internal::Surroundings around = internal::surroundings_of(cluster, stage);
  for (int number = 0; number < static_cast<int>(graph.blocks.size()); ++number) {
    const Block& block = graph.blocks[static_cast<std::size_t>(number)];
    const BlockCosts costs(block,
                           shape,
                           Precision::kBFloat16,
                           table,
                           {},
                           {},
                           {},
                           pool.activations_of(number, block, shape, graph.microbatch, {}));
    expect_least_sums(costs, pool, random);
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
      for (const TinyModel& model : {::shardwise::testing::tiny_gpt2(),
                                     ::shardwise::testing::tiny_llama(),
                                     ::shardwise::testing::tiny_mixtral()}) {
        BlockPool pool;
        expect_same_account(graph_of(model, vocabulary), mesh, 60, random, pool);
      }
    }
  }
}

// Two sequences on each shard of the data axis, whatever its degree.
TEST(BlockCosts, ActivationsThatDataDegreesShareAddUpToo) {
  std::mt19937 random(11);
  for (TinyModel model : {::shardwise::testing::tiny_gpt2(),
                          ::shardwise::testing::tiny_llama(),
                          ::shardwise::testing::tiny_mixtral()}) {
    BlockPool pool;
    const auto decoder_of = [&](const Graph& graph, const Mesh& mesh) {
      std::vector<int> devices(static_cast<std::size_t>(mesh.devices()));
      std::iota(devices.begin(), devices.end(), 0);
      const StageShape shape = shape_of(two_nodes_of_four(), devices, mesh);
      return pool.activations_of(1, graph.blocks[1], shape, graph.microbatch, {});
    };
    model.microbatch = 4;
    const Graph four = graph_of(model, 50);
    model.microbatch = 8;
    const Graph eight = graph_of(model, 50);
    const bool is_dense = model.experts == 0;
    EXPECT_EQ(decoder_of(four, {{2, 2, 1}}) == decoder_of(eight, {{4, 2, 1}}), is_dense);
    EXPECT_NE(decoder_of(four, {{2, 2, 1}}), decoder_of(eight, {{2, 2, 1}}));
    EXPECT_NE(decoder_of(four, {{2, 2, 1}}), decoder_of(eight, {{4, 1, 2}}));
    for (const int free_axis : {1, 2}) {
      expect_same_account(four, {{2, free_axis, 1}}, 60, random, pool);
      expect_same_account(eight, {{4, free_axis, 1}}, 60, random, pool);
    }
  }
}

}  // namespace
}  // namespace shardwise::planning
