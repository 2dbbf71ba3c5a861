#include "graph/redistribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace shardwise {
namespace {

const AxisLayout kReplicated = AxisLayout::replicate();

TEST(Redistribution, EqualLayoutsSendEachShardToItsTwin) {
  // [4, 2] cut in two rows blocks on devices 0, 1 and on 2, 3: 0 -> 2 and 1 -> 3, 4 elements each.
  const Layout rows{AxisLayout::shard(0), kReplicated, kReplicated};
  const auto messages =
      redistribution({4, 2}, {rows, Mesh{{2, 1, 1}}, {0, 1}}, {rows, Mesh{{2, 1, 1}}, {2, 3}});
  const std::vector<RedistributionMessage> expected = {{0, 2, Box{{0, 0}, {2, 2}}},
                                                       {1, 3, Box{{2, 0}, {4, 2}}}};
  EXPECT_EQ(messages, expected);
}

TEST(Redistribution, ReceiversOfTheSamePartTakeFromDifferentReplicas) {
  // Replicated on 0, 1 and wanted whole by 2, 3, 4: in turn from 0, 1, 0.
  const auto messages =
      redistribution({6}, {{}, Mesh{{1, 2, 1}}, {0, 1}}, {{}, Mesh{{1, 3, 1}}, {2, 3, 4}});
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0].from_device, 0);
  EXPECT_EQ(messages[1].from_device, 1);
  EXPECT_EQ(messages[2].from_device, 0);
}

TEST(Redistribution, ReplicasShareTheWorkOfReceiversThatWantDifferentParts) {
  // Replicated on 0, 1; receivers 2, 3 want a half each: one comes from 0, the other from 1.
  const Layout halves{kReplicated, AxisLayout::shard(0), kReplicated};
  const auto messages =
      redistribution({6}, {{}, Mesh{{1, 2, 1}}, {0, 1}}, {halves, Mesh{{1, 2, 1}}, {2, 3}});
  const std::vector<RedistributionMessage> expected = {{0, 2, Box{{0}, {3}}},
                                                       {1, 3, Box{{3}, {6}}}};
  EXPECT_EQ(messages, expected);
}

TEST(Redistribution, AHolderKeepsItsOwnCopy) {
  const auto messages =
      redistribution({6}, {{}, Mesh{{1, 2, 1}}, {0, 1}}, {{}, Mesh{{1, 2, 1}}, {1, 2}});
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].from_device, 1);
  EXPECT_EQ(messages[0].to_device, 1);
  EXPECT_EQ(messages[1].from_device, 0);
}

TEST(Redistribution, PaddingIsNeverSent) {
  // 5 rows over 4 senders: shards of 2, 2, 1 and 0 true rows; the receiver gets 5 rows in 3 parts.
  const Layout rows{AxisLayout::shard(0), kReplicated, kReplicated};
  const auto messages =
      redistribution({5}, {rows, Mesh{{4, 1, 1}}, {0, 1, 2, 3}}, {{}, Mesh{{1, 1, 1}}, {9}});
  const std::vector<RedistributionMessage> expected = {
      {0, 9, Box{{0}, {2}}}, {1, 9, Box{{2}, {4}}}, {2, 9, Box{{4}, {5}}}};
  EXPECT_EQ(messages, expected);
}

// Oracle by elements: fills an array per device and counts.
TEST(Redistribution, EveryReceiverGetsEveryElementOfItsBoxOnceFromAHolder) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    const std::vector<std::int64_t> shape = {1 + pick(5), 1 + pick(4)};
    const auto placement = [&](int first_device) {
      TensorPlacement p;
      for (int m = 0; m < kMeshAxes; ++m) {
        p.mesh.sizes[static_cast<std::size_t>(m)] = 1 + pick(3);
        const int dim = pick(3) - 1;
        if (p.mesh.sizes[static_cast<std::size_t>(m)] > 1 && dim >= 0) {
          p.layout[static_cast<std::size_t>(m)] = AxisLayout::shard(dim);
        }
      }
      for (int i = 0; i < p.mesh.devices(); ++i) {
        p.devices.push_back(first_device + i);
      }
      return p;
    };
    const TensorPlacement sender = placement(0);
    const TensorPlacement receiver = placement(pick(30));
    const auto held = [&](const TensorPlacement& p, int device, std::int64_t i, std::int64_t j) {
      const Box box =
          shard_box(shape, p.layout, p.mesh, coordinates_of(p.mesh, device - p.devices.front()));
      return box.begin[0] <= i && i < box.end[0] && box.begin[1] <= j && j < box.end[1];
    };
    std::map<std::vector<std::int64_t>, int> arrivals;  // (device, i, j) -> times
    for (const RedistributionMessage& message : redistribution(shape, sender, receiver)) {
      for (std::int64_t i = message.global_box.begin[0]; i < message.global_box.end[0]; ++i) {
        for (std::int64_t j = message.global_box.begin[1]; j < message.global_box.end[1]; ++j) {
          EXPECT_TRUE(held(sender, message.from_device, i, j));
          ++arrivals[{message.to_device, i, j}];
        }
      }
    }
    for (const int device : receiver.devices) {
      for (std::int64_t i = 0; i < shape[0]; ++i) {
        for (std::int64_t j = 0; j < shape[1]; ++j) {
          EXPECT_EQ((arrivals[{device, i, j}]), held(receiver, device, i, j) ? 1 : 0);
        }
      }
    }
  }
}

// Written out, they are what redistribution() says.
TEST(RepeatedMessages, AreTheMessagesOfRedistribution) {
  std::mt19937 random(11);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  int num_repeated = 0;
  for (int round = 0; round < 4000; ++round) {
    SCOPED_TRACE(round);
    const std::vector<std::int64_t> shape = {12 * (1 + pick(2)) + pick(2), 1 + pick(6)};
    const auto placement = [&](int first_device) {
      TensorPlacement p;
      for (std::size_t m = 0; m < kMeshAxes; ++m) {
        p.mesh.sizes[m] = 1 + pick(4);
        const int dim = m == 0 ? pick(8) == 0 ? -1 : 0 : pick(3) - 1;
        if (p.mesh.sizes[m] > 1 && dim >= 0) {
          p.layout[m] = AxisLayout::shard(dim);
        }
      }
      for (int i = 0; i < p.mesh.devices(); ++i) {
        p.devices.push_back(first_device + i);
      }
      std::shuffle(p.devices.begin(), p.devices.end(), random);
      return p;
    };
    const TensorPlacement sender = placement(pick(2) * 100);
    const TensorPlacement receiver = placement(40 + pick(30));
    using Counts = std::map<std::pair<int, int>, std::int64_t>;
    Counts expected;
    for (const RedistributionMessage& message : redistribution(shape, sender, receiver)) {
      if (message.from_device != message.to_device) {
        expected[{message.from_device, message.to_device}] += message.global_box.elements();
      }
    }
    const RepeatedMessages repeated = repeated_messages(shape, sender, receiver);
    num_repeated += repeated.copies > 1 ? 1 : 0;
    Counts found;
    for (int copy = 0; copy < repeated.copies; ++copy) {
      for (const RepeatedMessages::Message& message : repeated.messages) {
        const int from = message.from + copy * repeated.sender_stride;
        const int to = message.to + copy * repeated.receiver_stride;
        found[{sender.devices.at(static_cast<std::size_t>(from)),
               receiver.devices.at(static_cast<std::size_t>(to))}] += message.elements;
      }
    }
    EXPECT_EQ(found, expected);
  }
  EXPECT_GT(num_repeated, 200);
}

}  // namespace
}  // namespace shardwise
