// Collectives and messages between ranks as threads. The facts hold for every Communicator:
// tests/mpi_communicator_test.py runs the same arithmetic over processes.
#include "runtime/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "core/errors.h"
#include "runtime/reduction.h"
#include "runtime/thread_communicator.h"

namespace shardwise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int> all_ranks(const Communicator& communicator) {
  std::vector<int> ranks(static_cast<std::size_t>(communicator.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

TEST(Bfloat16, RoundsToNearestEven) {
  // bf16 keeps 8 significant bits: 1 + 2^-8 lies between 1 and 1 + 2^-7 and goes to the even 1.
  EXPECT_EQ(from_bfloat16(to_bfloat16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(from_bfloat16(to_bfloat16(1.0f + 0x1p-7f + 0x1p-8f)), 1.0f + 0x1p-6f);
  EXPECT_TRUE(std::isnan(from_bfloat16(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(SumBlocks, AddsInRankOrder) {
  // (1e8 + 1) - 1e8 in fp32 is 0: 1 is lost beside 1e8. In the order 1e8, -1e8, 1 it is 1.
  const float a = 1e8f;
  const float b = 1.0f;
  const float c = -1e8f;
  float sum = -1;
  const std::vector<const void*> first = {&a, &b, &c};
  sum_blocks(first, &sum, 1, WireType::kFloat32);
  EXPECT_EQ(sum, 0.0f);
  const std::vector<const void*> second = {&a, &c, &b};
  sum_blocks(second, &sum, 1, WireType::kFloat32);
  EXPECT_EQ(sum, 1.0f);
}

TEST(SumBlocks, AddsBfloat16InFloat) {
  // Each addition of 2^-8 to 1 would be lost in bf16; in fp32 two of them make 2^-7.
  const std::uint16_t one = to_bfloat16(1.0f);
  const std::uint16_t small = to_bfloat16(0x1p-8f);
  const std::vector<const void*> blocks = {&one, &small, &small};
  std::uint16_t sum = 0;
  sum_blocks(blocks, &sum, 1, WireType::kBFloat16);
  EXPECT_EQ(from_bfloat16(sum), 1.0f + 0x1p-7f);
}

TEST(Collectives, AllGatherPutsBlocksInMemberOrder) {
  run_as_threads(3, [](Communicator& communicator) {
    const auto group = communicator.make_group({2, 0, 1});  // rank 2 is member 0
    const std::int64_t mine[2] = {communicator.rank(), 10 * communicator.rank()};
    std::vector<std::int64_t> all(6, -1);
    group->all_gather(mine, all.data(), 2, WireType::kInt64);
    EXPECT_THAT(all, ElementsAre(2, 20, 0, 0, 1, 10));
  });
}

TEST(Collectives, ReduceScatterGivesEachMemberItsBlockOfTheSum) {
  run_as_threads(3, [](Communicator& communicator) {
    const auto group = communicator.make_group(all_ranks(communicator));
    // Rank r sends r + 10 j to member j: member j gets (0 + 1 + 2) + 3 * 10 j.
    std::vector<float> send;
    for (int j = 0; j < 3; ++j) {
      send.push_back(static_cast<float>(communicator.rank() + 10 * j));
    }
    float sum = 0;
    group->reduce_scatter(send.data(), &sum, 1, WireType::kFloat32);
    EXPECT_EQ(sum, 3.0f + 30.0f * static_cast<float>(communicator.rank()));
  });
}

TEST(Collectives, AllReducePadsOddCounts) {
  for (const std::int64_t count : {0, 1, 2, 5, 300'001}) {
    run_as_threads(4, [count](Communicator& communicator) {
      const auto group = communicator.make_group(all_ranks(communicator));
      std::vector<float> data(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = static_cast<float>(i % 1000) + static_cast<float>(communicator.rank());
      }
      group->all_reduce(data.data(), count, WireType::kFloat32);
      for (std::size_t i = 0; i < data.size(); ++i) {
        ASSERT_EQ(data[i], 4.0f * static_cast<float>(i % 1000) + 6.0f) << i;
      }
      // Twice the padded input: 4 * ceil(count / 4) * 4 bytes * 2.
      EXPECT_EQ(communicator.payload().all_reduce, 2 * ((count + 3) / 4) * 4 * 4);
    });
  }
}

// Parts of 0, 1 and 100,001 elements a block (more than one piece), in place.
TEST(Collectives, PartsAreReducedAndGatheredEachOnItsOwn) {
  const std::vector<std::int64_t> counts = {100'001, 0, 1};
  run_as_threads(3, [&counts](Communicator& communicator) {
    const auto group = communicator.make_group(all_ranks(communicator));
    const auto rank = communicator.rank();
    const auto element = [](std::size_t part, std::int64_t i) {
      return static_cast<float>(static_cast<std::int64_t>(part) * 100 + i % 1000);
    };
    std::vector<std::vector<float>> buffers;
    std::vector<CollectivePart> reduced;
    std::vector<CollectivePart> gathered;
    for (std::size_t p = 0; p < counts.size(); ++p) {
      std::vector<float>& buffer =
          buffers.emplace_back(static_cast<std::size_t>(3 * counts[p] + 1));
      for (std::int64_t i = 0; i < 3 * counts[p]; ++i) {
        buffer[static_cast<std::size_t>(i)] = element(p, i) + static_cast<float>(rank);
      }
      float* own = buffer.data() + rank * counts[p];
      reduced.push_back({buffer.data(), own, counts[p]});
      gathered.push_back({own, buffer.data(), counts[p]});
    }
    group->reduce_scatter(reduced, WireType::kFloat32);
    EXPECT_EQ(communicator.payload().reduce_scatter, 100'002 * 4 * 3);
    group->all_gather(gathered, WireType::kFloat32);
    EXPECT_EQ(communicator.payload().all_gather, 100'002 * 4 * 3);
    for (std::size_t p = 0; p < counts.size(); ++p) {
      for (std::int64_t i = 0; i < 3 * counts[p]; ++i) {
        ASSERT_EQ(buffers[p][static_cast<std::size_t>(i)], 3.0f * element(p, i) + 3.0f)
            << "part " << p << ", element " << i;
      }
    }
  });
}

TEST(Collectives, AllToAllTransposesBlocks) {
  run_as_threads(3, [](Communicator& communicator) {
    const auto group = communicator.make_group(all_ranks(communicator));
    std::vector<std::int64_t> send;
    for (int j = 0; j < 3; ++j) {
      send.push_back(10 * communicator.rank() + j);
    }
    std::vector<std::int64_t> receive(3);
    group->all_to_all(send.data(), receive.data(), 1, WireType::kInt64);
    const std::int64_t me = communicator.rank();
    EXPECT_THAT(receive, ElementsAre(me, 10 + me, 20 + me));
  });
}

TEST(Collectives, VariableAllToAllTakesEmptyBlocks) {
  // Rank r sends r values to every member: member j gets 0 of rank 0, 1 of rank 1, 2 of rank 2.
  run_as_threads(3, [](Communicator& communicator) {
    const auto group = communicator.make_group(all_ranks(communicator));
    const auto rank = static_cast<std::size_t>(communicator.rank());
    const std::vector<float> send(3 * rank, static_cast<float>(rank));
    const std::vector<std::int64_t> send_counts(3, communicator.rank());
    const std::vector<std::int64_t> receive_counts = {0, 1, 2};
    std::vector<float> receive(3, -1);
    group->all_to_all_variable(
        send.data(), send_counts, receive.data(), receive_counts, WireType::kFloat32);
    EXPECT_THAT(receive, ElementsAre(1, 2, 2));
  });
}

TEST(Collectives, ControlTrafficIsNoPayload) {
  run_as_threads(2, [](Communicator& communicator) {
    const auto group = communicator.make_group(all_ranks(communicator));
    std::vector<double> values = {1.0 + communicator.rank(), -1.0 * communicator.rank()};
    group->control_sum(values);
    EXPECT_THAT(values, ElementsAre(3, -1));
    group->control_max(values);
    const std::vector<std::int64_t> send = {communicator.rank(), 10 + communicator.rank()};
    std::vector<std::int64_t> receive(2);
    group->control_exchange(send, receive);
    const std::int64_t me = communicator.rank();
    EXPECT_THAT(receive, ElementsAre(10 * me, 10 * me + 1));
    group->barrier();
    const PayloadCounts payload = communicator.payload();
    EXPECT_EQ(payload.all_gather + payload.all_reduce + payload.all_to_all + payload.sends, 0);
  });
}

TEST(Collectives, OneMemberKeepsItsData) {
  run_as_threads(1, [](Communicator& communicator) {
    const auto group = communicator.make_group({0});
    float data = 3;
    float out = 0;
    group->all_reduce(&data, 1, WireType::kFloat32);
    group->reduce_scatter(&data, &out, 1, WireType::kFloat32);
    group->all_gather(&out, &data, 1, WireType::kFloat32);
    EXPECT_EQ(data, 3);
    EXPECT_EQ(communicator.payload().all_gather, 0);
  });
}

TEST(Collectives, TwoThreadsOfARankUseTwoGroups) {
  run_as_threads(2, [](Communicator& communicator) {
    const auto first = communicator.make_group({0, 1});
    const auto second = communicator.make_group({0, 1});
    const auto add = [](CommunicationGroup& group) {
      for (int round = 0; round < 50; ++round) {
        std::vector<float> data(1000, 1);
        group.all_reduce(data.data(), 1000, WireType::kFloat32);
        ASSERT_EQ(data[999], 2);
      }
    };
    std::thread other([&] { add(*second); });
    add(*first);
    other.join();
  });
}

TEST(Messages, BothSidesMayPostBeforeAnyoneWaits) {
  run_as_threads(2, [](Communicator& communicator) {
    const int peer = 1 - communicator.rank();
    const std::int64_t mine = 100 + communicator.rank();
    std::int64_t theirs = 0;
    const auto send = communicator.post_send(&mine, sizeof mine, peer, 7);
    const auto receive = communicator.post_receive(&theirs, sizeof theirs, peer, 7);
    communicator.wait(*send);
    communicator.wait(*receive);
    EXPECT_EQ(theirs, 100 + peer);
    EXPECT_EQ(communicator.payload().sends, 8);
  });
}

TEST(Messages, TagsKeepThemApart) {
  run_as_threads(2, [](Communicator& communicator) {
    std::int64_t first = 1;
    std::int64_t second = 2;
    if (communicator.rank() == 0) {
      const auto a = communicator.post_send(&first, sizeof first, 1, 1);
      const auto b = communicator.post_send(&second, sizeof second, 1, 2);
      communicator.wait(*a);
      communicator.wait(*b);
    } else {
      std::int64_t got_first = 0;
      std::int64_t got_second = 0;
      const auto b = communicator.post_receive(&got_second, sizeof got_second, 0, 2);
      const auto a = communicator.post_receive(&got_first, sizeof got_first, 0, 1);
      communicator.wait(*b);
      communicator.wait(*a);
      EXPECT_EQ(got_first, 1);
      EXPECT_EQ(got_second, 2);
    }
  });
}

TEST(LostRank, OthersNameItAndTheirOperation) {
  std::string seen;
  EXPECT_THROW(run_as_threads(2,
                              [&seen](Communicator& communicator) {
                                const auto group = communicator.make_group({0, 1});
                                if (communicator.rank() == 1) {
                                  throw std::runtime_error("disk full");
                                }
                                try {
                                  group->barrier();
                                } catch (const RuntimeFailure& failure) {
                                  seen = failure.what();
                                  throw;
                                }
                              }),
               std::runtime_error);
  EXPECT_THAT(seen, HasSubstr("rank 0: barrier among ranks [0, 1]"));
  EXPECT_THAT(seen, HasSubstr("rank 1 has ended (disk full)"));
}

TEST(LostRank, ARankThatGivesUpEndsItsOtherThread) {
  bool has_ended = false;
  EXPECT_THROW(run_as_threads(2,
                              [&has_ended](Communicator& communicator) {
                                const auto group = communicator.make_group({0, 1});
                                if (communicator.rank() == 1) {
                                  return;
                                }
                                std::thread other([&] {
                                  try {
                                    group->barrier();
                                  } catch (const RuntimeFailure&) {
                                    has_ended = true;
                                  }
                                });
                                communicator.abandon("disk full");
                                other.join();
                                throw RuntimeFailure("disk full");
                              }),
               RuntimeFailure);
  EXPECT_TRUE(has_ended);
}

TEST(LostRank, ASilentRankIsATimeout) {
  std::string seen;
  ThreadRanksOptions options;
  options.deadline = Seconds(0.1);
  run_as_threads(
      2,
      [&seen](Communicator& communicator) {
        const auto group = communicator.make_group({0, 1});
        if (communicator.rank() == 0) {
          try {
            group->barrier();
          } catch (const RuntimeFailure& failure) {
            seen = failure.what();
          }
        }
      },
      options);
  EXPECT_THAT(seen, HasSubstr("no answer from rank 1"));
}

}  // namespace
}  // namespace shardwise
