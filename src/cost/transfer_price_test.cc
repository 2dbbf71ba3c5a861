#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "cost/modelled_table.h"
#include "cost/stage_prices.h"
#include "cost/test_models.h"

namespace shardwise::internal {
namespace {

// The price from the message list of graph/redistribution.h, each message looked at by itself.
TEST(TransferPrice, RepeatedMessagesCostWhatTheWholeListCosts) {
  std::mt19937 random(5);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const Cluster cluster = test::small_cluster(40, 4);
  const ModelledTable costs(cluster);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const std::vector<std::int64_t> shape = {8 * (1 + pick(3)), 6, 16};
    const auto placement = [&](int first_device) {
      TensorPlacement p;
      p.mesh.sizes = {1 << pick(4), 1 + pick(3), 1 + pick(2)};
      for (std::size_t m = 0; m < kMeshAxes; ++m) {
        const int dim = m == 0 ? 0 : pick(4) - 1;
        if (p.mesh.sizes[m] > 1 && dim >= 0) {
          p.layout[m] = AxisLayout::shard(dim);
        }
      }
      p.devices.resize(static_cast<std::size_t>(p.mesh.devices()));
      std::iota(p.devices.begin(), p.devices.end(), first_device);
      return p;
    };
    const TensorPlacement sender = placement(pick(50));
    const TensorPlacement receiver = placement(pick(110));
    const TransferPrice price = price_transfer(shape, sender, receiver, 2, cluster, costs);
    const TransferPrice listed =
        price_messages(redistribution(shape, sender, receiver), sender.devices, 2, cluster, costs);
    EXPECT_EQ(price.time.count, listed.time.count);
    EXPECT_EQ(price.busiest.count, listed.busiest.count);
    EXPECT_EQ(price.level, listed.level);
    EXPECT_EQ(price.concurrent, listed.concurrent);
    EXPECT_EQ(price.sent, listed.sent);
  }
}

// Groups found by comparing coordinates, their levels by comparing all pairs.
TEST(Placement, IsThatOfTheWorstGroup) {
  std::mt19937 random(6);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const int node = 4;
  const Cluster cluster = test::small_cluster(16, node);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const Mesh mesh{{1 + pick(4), 1 + pick(4), 1 + pick(3)}};
    std::vector<int> devices(64);
    std::iota(devices.begin(), devices.end(), 0);
    if (pick(2) == 0) {
      std::shuffle(devices.begin(), devices.end(), random);
    }
    devices.resize(static_cast<std::size_t>(mesh.devices()));
    const auto axes = static_cast<unsigned>(pick(8));
    std::map<std::vector<int>, std::vector<int>> groups;  // by coordinates across
    for (int i = 0; i < mesh.devices(); ++i) {
      std::vector<int> across;
      for (int m = 0; m < kMeshAxes; ++m) {
        if ((axes >> m & 1U) == 0) {
          across.push_back(coordinates_of(mesh, i)[static_cast<std::size_t>(m)]);
        }
      }
      groups[across].push_back(devices[static_cast<std::size_t>(i)]);
    }
    GroupPlacement worst{.ranks = 0, .level = -1, .ranks_per_node = 0, .concurrent = 0};
    std::map<int, int> groups_on;  // by node
    for (const auto& [across, group] : groups) {
      int level = 0;
      std::map<int, int> ranks_on;
      for (const int device : group) {
        level = std::max(level, level_spanned(cluster, {group.front(), device}));
        ++ranks_on[device / node];
      }
      int fewest = static_cast<int>(group.size());
      for (const auto& [where, ranks] : ranks_on) {
        fewest = std::min(fewest, ranks);
        worst.concurrent = std::max(worst.concurrent, ++groups_on[where]);
      }
      if (level > worst.level || (level == worst.level && fewest < worst.ranks_per_node)) {
        worst.level = level;
        worst.ranks_per_node = fewest;
      }
      worst.ranks = static_cast<int>(group.size());
    }
    EXPECT_EQ(placement_of(cluster, devices, mesh, axes), worst);
  }
}

}  // namespace
}  // namespace shardwise::internal
