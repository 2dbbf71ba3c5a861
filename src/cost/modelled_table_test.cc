#include "cost/modelled_table.h"

#include <gtest/gtest.h>

#include "core/errors.h"
#include "cost/device_preset.h"
#include "cost/model_accuracy.h"
#include "cost/test_models.h"

namespace shardwise {
namespace {

using test::small_cluster;

const ModelConstants kConstants;

Seconds collective(const Cluster& cluster,
                   CollectiveKind kind,
                   std::int64_t bytes,
                   const GroupPlacement& placement,
                   const Execution& execution = {}) {
  return ModelledTable(cluster, execution)
      .collective_time(kind, Bytes(bytes), Precision::kFloat32, placement)
      .time;
}

TEST(ModelledTable, AllGatherInANodeByHand) {
  // 4 ranks, 80 MB whole: a latency of 1 us, 3 steps of a ring and 3/4 of it at a share of 10 GB/s.
  const Seconds time = collective(small_cluster(1, 4),
                                  CollectiveKind::kAllGather,
                                  80'000'000,
                                  {.ranks = 4, .level = 0, .ranks_per_node = 4});
  EXPECT_NEAR(
      time.count, 1e-6 + 3 * kConstants.ring_step + 60e6 / (10e9 * kConstants.node_share), 1e-12);
}

TEST(ModelledTable, RanksOfANodeUseTheirCardsTogether) {
  // 2 nodes of 2: the ring leaves a node over both cards, 2 GB/s, which is less than the node's 10;
  // latency 1 us, one step inside and one of 10 us between; all wait for the slower of two nodes.
  const double waiting = 1 + kConstants.per_doubling;
  const Seconds time = collective(small_cluster(2, 2),
                                  CollectiveKind::kReduceScatter,
                                  80'000'000,
                                  {.ranks = 4, .level = 1, .ranks_per_node = 2});
  EXPECT_NEAR(
      time.count,
      waiting * (1e-6 + kConstants.ring_step + 1e-5 + 60e6 / (2e9 * kConstants.network_share)),
      1e-12);
}

TEST(ModelledTable, AnAllReduceIsTwoPassesOverHalfItsPayload) {
  const Cluster cluster = small_cluster(4, 2);
  const GroupPlacement group{.ranks = 8, .level = 1, .ranks_per_node = 2};
  const Seconds pass = collective(cluster, CollectiveKind::kAllGather, 1'000'000, group);
  const Seconds both = collective(cluster, CollectiveKind::kAllReduce, 2'000'000, group);
  const double base = (1 + 2 * kConstants.per_doubling) * 1e-6;  // paid once
  EXPECT_NEAR(both.count - base, 2 * (pass.count - base), 1e-15);
}

TEST(ModelledTable, OnTwoNodesATreeSendsEveryByteOnceThroughTheCards) {
  // 2 nodes of 2, 40 MB: 20 ms through both cards, more than the node's own 2 * 1/2 * 40 MB.
  const double waiting = 1 + kConstants.per_doubling;
  const Seconds time = collective(small_cluster(2, 2),
                                  CollectiveKind::kAllReduce,
                                  80'000'000,
                                  {.ranks = 4, .level = 1, .ranks_per_node = 2});
  EXPECT_NEAR(time.count,
              waiting * (1e-6 + 2 * (kConstants.ring_step + 1e-5) +
                         40e6 / (2e9 * kConstants.network_share)),
              1e-12);
}

TEST(ModelledTable, ASwitchThatAddsTakesEveryByteOnce) {
  Cluster cluster = small_cluster(1, 8);
  const GroupPlacement group{.ranks = 8, .level = 0, .ranks_per_node = 8};
  const double ring = collective(cluster, CollectiveKind::kAllReduce, 80'000'000, group).count;
  cluster.levels[0].adds_in_switch = true;
  const double added = collective(cluster, CollectiveKind::kAllReduce, 80'000'000, group).count;
  const double latency = 1e-6 + 2 * 7 * kConstants.ring_step;
  EXPECT_NEAR(ring - latency, 2 * 40e6 * 7 / 8 / (10e9 * kConstants.node_share), 1e-12);
  EXPECT_NEAR(added - latency, 40e6 / (10e9 * kConstants.in_switch), 1e-12);
}

TEST(ModelledTable, FewerDirectLinksJoinFewerDevices) {
  // Six rings' worth of 60 GB/s through all eight, one through two.
  const Cluster cluster = cluster_of(*find_node("dgx-1"), 1, "dgx-1:1");
  const auto time = [&](int ranks) {
    const GroupPlacement group{.ranks = ranks, .level = 0, .ranks_per_node = ranks};
    return collective(cluster, CollectiveKind::kAllGather, 80'000'000, group).count - 8e-6 -
           (ranks - 1) * kConstants.ring_step;
  };
  EXPECT_NEAR(time(8), 70e6 / (150e9 * kConstants.direct_share), 1e-12);
  EXPECT_NEAR(time(2), 40e6 / (25e9 * kConstants.direct_share), 1e-12);
}

TEST(ModelledTable, MeasuredCollectivesAreBelieved) {
  Cluster cluster = small_cluster(1, 4);
  const GroupPlacement group{.ranks = 4, .level = 0, .ranks_per_node = 4};
  cluster.collectives = {{CollectiveKind::kAllGather, 0, 4, 4, Bytes(1000), Seconds(1e-3)},
                         {CollectiveKind::kAllGather, 0, 4, 4, Bytes(4000), Seconds(4e-3)}};
  EXPECT_DOUBLE_EQ(collective(cluster, CollectiveKind::kAllGather, 1000, group).count, 1e-3);
  EXPECT_NEAR(collective(cluster, CollectiveKind::kAllGather, 2000, group).count, 2e-3, 1e-12);
  // Another kind, another group: modelled.
  EXPECT_LT(collective(cluster, CollectiveKind::kReduceScatter, 1000, group).count, 1e-4);
}

TEST(ModelledTable, ATokenTravelsOnceToARankThatHoldsSeveralOfItsExperts) {
  // 4 ranks of a node, 2 experts a token: of 2 copies, 1 - (3/4)^2 = 7/16 reach each other rank
  // where 2/4 did; whatever else a collective costs is the same.
  const Cluster cluster = small_cluster(1, 4);
  const GroupPlacement group{.ranks = 4, .level = 0, .ranks_per_node = 4};
  Execution once;
  once.token_copies = 2;
  const auto time = [&](const Execution& execution) {
    return collective(cluster, CollectiveKind::kAllToAll, 80'000'000, group, execution).count -
           1e-6 - 3 * kConstants.ring_step;
  };
  EXPECT_NEAR(time(once) / time({}), (7.0 / 16) / (2.0 / 4), 1e-12);
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
  // 2 * 4096^3 operations at the sustained share of the best measured product, less the start.
  const double share = 0.83 * kConstants.sustained * 4096 / (4096 + kConstants.sum_start);
  EXPECT_NEAR(time(1, 4096, 4096, 4096), 2.0 * 4096 * 4096 * 4096 / (1e12 * share), 1e-9);
  EXPECT_EQ(time(1, 1, 16, 16), kConstants.launch);
  // A tile and one row take as long as two tiles.
  EXPECT_NEAR(time(1, 65, 4096, 4096), time(1, 128, 4096, 4096), 1e-9);
}

TEST(ModelledTable, OtherConstantsAnswerFromThenOn) {
  ModelledTable table(small_cluster(1, 1));
  ModelConstants other;
  other.step = 2 * kConstants.step;
  other.exposed = 0.5;
  table.set_constants(other);
  EXPECT_EQ(table.step_overhead(1).time, Seconds(2 * kConstants.step));
  EXPECT_EQ(table.execution().exposed, 0.5);
}

TEST(ModelledTable, ProvenanceTellsTheMeasuredAccuracy) {
  Cluster cluster = small_cluster(1, 1);
  EXPECT_EQ(ModelledTable(cluster).provenance(),
            "modelled from data sheets: device (accuracy unknown: no published run on this device "
            "was scored)");
  const ModelAccuracy& first = model_accuracies().front();
  cluster.types[0].name = std::string(first.device);
  const std::string text = ModelledTable(cluster).provenance();
  EXPECT_NE(text.find("±"), std::string::npos) << text;
  EXPECT_NE(text.find("from " + std::to_string(first.runs) + " published"), std::string::npos);
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
