#include "cost/measured_table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/errors.h"
#include "cost/test_models.h"

namespace shardwise {
namespace {

const GroupPlacement kPair{.ranks = 2, .level = 0, .ranks_per_node = 2, .concurrent = 1};

// The linear "up" of the small model: b s h -> b s f.
struct Up {
  Block block = test::small_model(4, 1).blocks[1];
  const Op& op = block.ops[1];

  std::vector<std::int64_t> sizes(std::int64_t b) const {
    std::vector<std::int64_t> sizes;
    for (const LoopAxis& axis : op.axes) {
      sizes.push_back(axis.name == "b" ? b : axis.size);
    }
    return sizes;
  }
  OpKey key(std::int64_t b) const { return op_key(op, sizes(b), Precision::kFloat32); }
  Estimate time(const MeasuredCostTable& table, std::int64_t b) const {
    return table.op_time(op, sizes(b), Direction::kForward, Precision::kFloat32, 0);
  }
};

MeasuredCostTable two_row_table(const Up& up) {
  MeasuredTable table;
  table.ops = {{up.key(1), Direction::kForward, 0, Seconds(1e-3), 0},
               {up.key(4), Direction::kForward, 0, Seconds(8e-3), 0}};
  return MeasuredCostTable(table);
}

TEST(MeasuredTable, AnExactRowIsTheAnswer) {
  const Up up;
  const Estimate estimate = up.time(two_row_table(up), 4);
  EXPECT_EQ(estimate.time, Seconds(8e-3));
  EXPECT_FALSE(estimate.extrapolated);
}

TEST(MeasuredTable, BetweenRowsAPowerLaw) {
  // 4 times the tokens, 8 times the time: exponent 3/2, so twice the tokens take 2^1.5 ms.
  const Up up;
  const Estimate estimate = up.time(two_row_table(up), 2);
  EXPECT_NEAR(estimate.time.count, 1e-3 * std::pow(2.0, 1.5), 1e-12);
  EXPECT_FALSE(estimate.extrapolated);
}

TEST(MeasuredTable, BeyondItsRangeItScalesAndSaysSo) {
  const Up up;
  MeasuredTable table;
  table.ops = {{up.key(2), Direction::kForward, 0, Seconds(1e-3), 0}};
  const MeasuredCostTable costs(table);
  const Estimate above = up.time(costs, 4);
  EXPECT_EQ(above.time, Seconds(2e-3));
  EXPECT_TRUE(above.extrapolated);
  const Estimate below = up.time(costs, 1);
  EXPECT_EQ(below.time, Seconds(1e-3));
  EXPECT_TRUE(below.extrapolated);
}

TEST(MeasuredTable, AMissingFamilyIsNamedWithItsRemedy) {
  const Up up;
  try {
    static_cast<void>(two_row_table(up).op_time(
        up.op, up.sizes(1), Direction::kBackwardInput, Precision::kFloat32, 0));
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("linear bias [8, 16, 64] fp32 backward-input (op up)"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("run shardwise profile"), std::string::npos);
  }
  const MeasuredCostTable empty{MeasuredTable{}};
  const Bytes size(8);
  EXPECT_THROW(static_cast<void>(empty.collective_time(
                   CollectiveKind::kAllReduce, size, Precision::kFloat32, kPair)),
               InputError);
  EXPECT_THROW(static_cast<void>(empty.transfer_time(size, 0, 1)), InputError);
  EXPECT_THROW(static_cast<void>(empty.optimizer_time(8, Precision::kFloat32, 0)), InputError);
  EXPECT_THROW(static_cast<void>(empty.accumulate_time(size, 0)), InputError);
  EXPECT_THROW(static_cast<void>(empty.overlap_fraction(0)), InputError);
  EXPECT_THROW(static_cast<void>(empty.step_overhead(1)), InputError);
}

TEST(MeasuredTable, ABrokenRowIsRefused) {
  MeasuredTable table;
  table.transfers = {{0, 1, Bytes(1024), Seconds(0), 0}};
  EXPECT_THROW(MeasuredCostTable{table}, InputError);
  table.transfers = {{0, 1, Bytes(0), Seconds(1), 0}};
  EXPECT_THROW(MeasuredCostTable{table}, InputError);
}

MeasuredTable collective_rows(CollectiveKind kind, Precision precision) {
  MeasuredTable table;
  GroupPlacement two_at_once = kPair;
  two_at_once.concurrent = 2;
  table.collectives = {{kind, precision, kPair, Bytes(1000), Seconds(1e-3), 0},
                       {kind, precision, two_at_once, Bytes(1000), Seconds(3e-3), 0}};
  return table;
}

TEST(MeasuredTable, AnUnmeasuredConcurrencyTakesTheNearestAndSaysSo) {
  const MeasuredCostTable costs(collective_rows(CollectiveKind::kAllReduce, Precision::kFloat32));
  GroupPlacement many = kPair;
  many.concurrent = 4;
  const Estimate estimate =
      costs.collective_time(CollectiveKind::kAllReduce, Bytes(1000), Precision::kFloat32, many);
  EXPECT_EQ(estimate.time, Seconds(3e-3));
  EXPECT_TRUE(estimate.extrapolated);
}

TEST(MeasuredTable, MovesServeBothPrecisionsAndSumsDoNot) {
  const Bytes size(1000);
  const MeasuredCostTable moves(collective_rows(CollectiveKind::kAllGather, Precision::kFloat32));
  EXPECT_EQ(
      moves.collective_time(CollectiveKind::kAllGather, size, Precision::kBFloat16, kPair).time,
      Seconds(1e-3));
  const MeasuredCostTable sums(collective_rows(CollectiveKind::kAllReduce, Precision::kFloat32));
  EXPECT_THROW(static_cast<void>(sums.collective_time(
                   CollectiveKind::kAllReduce, size, Precision::kBFloat16, kPair)),
               InputError);
}

TEST(OpKey, ShardsOfALinearAreTheSmallerProduct) {
  // Column parallel over 2 is the key of the linear with half the columns.
  const Up up;
  AxisAssignment columns{kUnassigned, test::axis(up.op, "f"), kUnassigned};
  const auto sizes = local_axis_sizes(up.op, columns, Mesh{{1, 2, 1}});
  EXPECT_EQ(op_key(up.op, sizes, Precision::kFloat32).sizes,
            (std::vector<std::int64_t>{32, 16, 32}));
}

TEST(OpKey, HeadsAndSequencesOfAttentionAreOneBatch) {
  BlockBuilder build("attention", 4, 8);
  const BlockBuilder::Axes h{{"h", 16, AxisSharding::kEven}};
  const LoopAxis n{"n", 2, AxisSharding::kEven};
  const LoopAxis r{"r", 3, AxisSharding::kEven};
  const LoopAxis d{"d", 4, AxisSharding::kNever};
  const TensorIndex x = build.boundary_input(16);
  const TensorIndex q = build.linear("q", x, h, {n, r, d}, false, 0.02);
  const TensorIndex k = build.linear("k", x, h, {n, d}, false, 0.02);
  const TensorIndex v = build.linear("v", x, h, {n, d}, false, 0.02);
  build.attention("attention", q, k, v, {.scale = 0.5});
  const Block block = std::move(build).build();
  const Op& op = block.ops[3];
  const auto key_with = [&](const char* name) {
    const AxisAssignment one{kUnassigned, test::axis(op, name), kUnassigned};
    return op_key(op, local_axis_sizes(op, one, Mesh{{1, 2, 1}}), Precision::kFloat32);
  };
  EXPECT_EQ(key_with("b"), key_with("n"));
  EXPECT_EQ(key_with("b").sizes, (std::vector<std::int64_t>{4, 3, 8, 8, 4}));
  EXPECT_EQ(key_with("s").sizes, (std::vector<std::int64_t>{8, 3, 4, 8, 4}));
  EXPECT_EQ(to_string(key_with("b")), "attention causal [4, 3, 8, 8, 4] fp32");
}

}  // namespace
}  // namespace shardwise
