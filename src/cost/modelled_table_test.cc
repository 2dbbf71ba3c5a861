#include "cost/modelled_table.h"

#include <gtest/gtest.h>

#include "core/errors.h"
#include "cost/test_models.h"

namespace shardwise {
namespace {

using test::small_cluster;

constexpr double kLaunch = 4e-6;

Seconds collective(const Cluster& cluster,
                   CollectiveKind kind,
                   std::int64_t bytes,
                   const GroupPlacement& placement) {
  return ModelledTable(cluster)
      .collective_time(kind, Bytes(bytes), Precision::kFloat32, placement)
      .time;
}

TEST(ModelledTable, AllGatherInANodeByHand) {
  // 4 ranks, 81 MB whole: two latencies of 1 us and 3/4 of it at 0.81 * 10 GB/s = 7.5 ms.
  const Seconds time = collective(small_cluster(1, 4),
                                  CollectiveKind::kAllGather,
                                  81'000'000,
                                  {.ranks = 4, .level = 0, .ranks_per_node = 4});
  EXPECT_NEAR(time.count, kLaunch + 2e-6 + 7.5e-3, 1e-12);
}

TEST(ModelledTable, AcrossNodesEachRankUsesItsOwnLink) {
  // 2 nodes of 2: half of S at 8.1 GB/s in the node, a quarter at 0.87 GB/s outside.
  const double size = 81e6;
  const Seconds time = collective(small_cluster(2, 2),
                                  CollectiveKind::kReduceScatter,
                                  81'000'000,
                                  {.ranks = 4, .level = 1, .ranks_per_node = 2});
  EXPECT_NEAR(time.count, kLaunch + 1e-6 + 1e-5 + size / 2 / 8.1e9 + size / 4 / 0.87e9, 1e-12);
}

TEST(ModelledTable, AnAllReduceIsTwoPassesOverHalfItsPayload) {
  const Cluster cluster = small_cluster(2, 2);
  const GroupPlacement group{.ranks = 4, .level = 1, .ranks_per_node = 2};
  const Seconds pass = collective(cluster, CollectiveKind::kAllGather, 1'000'000, group);
  const Seconds both = collective(cluster, CollectiveKind::kAllReduce, 2'000'000, group);
  EXPECT_NEAR(both.count, 2 * pass.count - kLaunch, 1e-15);
}

TEST(ModelledTable, DoublingBytesAndBandwidthChangesNothing) {
  Cluster fast = small_cluster(2, 4);
  for (NetworkLevel& level : fast.levels) {
    level.bandwidth = 2 * level.bandwidth;
  }
  const GroupPlacement group{.ranks = 8, .level = 1, .ranks_per_node = 4};
  for (const CollectiveKind kind : {CollectiveKind::kAllGather,
                                    CollectiveKind::kReduceScatter,
                                    CollectiveKind::kAllReduce,
                                    CollectiveKind::kAllToAll}) {
    EXPECT_NEAR(collective(fast, kind, 2 << 20, group).count,
                collective(small_cluster(2, 4), kind, 1 << 20, group).count,
                1e-15);
  }
}

TEST(ModelledTable, AGroupOfOneTalksToNobody) {
  EXPECT_EQ(collective(small_cluster(1, 4), CollectiveKind::kAllReduce, 1000, {}), Seconds(0));
}

TEST(ModelledTable, BigProductsRunNearTheCeilingAndSmallOnesWaitForTheLaunch) {
  const ModelledTable table(small_cluster(1, 1));
  const Block block = test::small_model(1, 1).blocks[1];
  const Op& up = block.ops[1];  // axes b s h f in some order
  const auto time = [&](std::int64_t b, std::int64_t s, std::int64_t h, std::int64_t f) {
    std::vector<std::int64_t> sizes;
    for (const LoopAxis& axis : up.axes) {
      sizes.push_back(axis.name == "b" ? b : axis.name == "s" ? s : axis.name == "h" ? h : f);
    }
    return table.op_time(up, sizes, Direction::kForward, Precision::kFloat32, 0).time.count;
  };
  // 2 * 4096^3 operations at 1e12 * 0.83 * 4096 / 4224.
  const double big = 2.0 * 4096 * 4096 * 4096 / (1e12 * 0.83 * 4096 / 4224);
  EXPECT_NEAR(time(1, 4096, 4096, 4096), big + kLaunch, 1e-9);
  EXPECT_LT(time(1, 1, 16, 16), 2 * kLaunch);
  // A tile and one row take as long as two tiles.
  EXPECT_NEAR(time(1, 65, 4096, 4096), time(1, 128, 4096, 4096), 1e-9);
}

TEST(ModelledTable, MissingRatesAreNamed) {
  Cluster cluster = small_cluster(1, 2);
  cluster.types[0].peak_bf16 = FlopsPerSecond(0);
  EXPECT_THROW(ModelledTable{cluster}, InputError);
  cluster = small_cluster(1, 2);
  cluster.levels[0].bandwidth = BytesPerSecond(0);
  EXPECT_THROW(ModelledTable{cluster}, InputError);
  cluster.levels.clear();
  EXPECT_THROW(ModelledTable{cluster}, InputError);
}

TEST(Placement, RowsAndColumnsOfAMeshOverTwoNodes) {
  // 2 nodes of 4, mesh data 2 x tensor 4: tensor groups fill a node, data groups cross.
  const Cluster cluster = small_cluster(2, 4);
  const std::vector<int> devices{0, 1, 2, 3, 4, 5, 6, 7};
  const Mesh mesh{{2, 4, 1}};
  EXPECT_EQ(placement_of(cluster, devices, mesh, 2U),
            (GroupPlacement{.ranks = 4, .level = 0, .ranks_per_node = 4, .concurrent = 1}));
  EXPECT_EQ(placement_of(cluster, devices, mesh, 1U),
            (GroupPlacement{.ranks = 2, .level = 1, .ranks_per_node = 1, .concurrent = 4}));
  EXPECT_EQ(placement_of(cluster, devices, mesh, 3U),
            (GroupPlacement{.ranks = 8, .level = 1, .ranks_per_node = 4, .concurrent = 1}));
}

}  // namespace
}  // namespace shardwise
