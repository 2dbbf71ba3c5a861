// Each collective against the parts of a whole tensor cut by index.
#include "runtime/layout_conversion.h"

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include "runtime/thread_communicator.h"

namespace shardwise {
namespace {

constexpr int kDegree = 3;

// Whole tensor [2, 3, 6] with its index as value.
at::Tensor whole() { return at::arange(36, at::kFloat).view({2, 3, 6}); }

at::Tensor shard(const at::Tensor& tensor, int dim, int coordinate) {
  const std::int64_t size = tensor.size(dim) / kDegree;
  return tensor.narrow(dim, coordinate * size, size).contiguous();
}

// Runs one step on three ranks and compares each with `expected(rank)`.
template <typename Input, typename Expected>
void check(const CollectiveStep& step, Input input, Expected expected) {
  run_as_threads(kDegree, [&](Communicator& communicator) {
    const auto group = communicator.make_group({0, 1, 2});
    const int rank = communicator.rank();
    const at::Tensor out = convert_layout(step, input(rank), group.get(), rank, kDegree, false);
    EXPECT_TRUE(out.is_contiguous());
    EXPECT_TRUE(out.equal(expected(rank))) << "rank " << rank;
  });
}

TEST(ConvertLayout, AllGatherJoinsShardsOfAnInnerDimension) {
  for (const int dim : {1, 2}) {
    check(
        {.kind = CollectiveKind::kAllGather, .dim = dim},
        [dim](int rank) { return shard(whole(), dim, rank); },
        [](int) { return whole(); });
  }
}

TEST(ConvertLayout, ReduceScatterAddsAndCuts) {
  // Partial sums whole * 1, whole * 2, whole * 4 add to whole * 7.
  for (const int dim : {1, 2}) {
    check(
        {.kind = CollectiveKind::kReduceScatter, .dim = dim},
        [](int rank) { return whole().mul(1 << rank); },
        [dim](int rank) { return shard(whole().mul(7), dim, rank); });
  }
}

TEST(ConvertLayout, AllReduceAddsAndKeepsItsInput) {
  run_as_threads(kDegree, [](Communicator& communicator) {
    const auto group = communicator.make_group({0, 1, 2});
    const at::Tensor input = whole().mul(1 << communicator.rank());
    const at::Tensor before = input.clone();
    const CollectiveStep step = {.kind = CollectiveKind::kAllReduce};
    const at::Tensor out =
        convert_layout(step, input, group.get(), communicator.rank(), kDegree, false);
    EXPECT_TRUE(out.equal(whole().mul(7)));
    EXPECT_TRUE(input.equal(before));
  });
}

TEST(ConvertLayout, AllToAllMovesTheShardedDimension) {
  check(
      {.kind = CollectiveKind::kAllToAll, .dim = 1, .to_dim = 2},
      [](int rank) { return shard(whole(), 1, rank); },
      [](int rank) { return shard(whole(), 2, rank); });
  check(
      {.kind = CollectiveKind::kAllToAll, .dim = 2, .to_dim = 1},
      [](int rank) { return shard(whole(), 2, rank); },
      [](int rank) { return shard(whole(), 1, rank); });
}

TEST(ConvertLayout, SliceTakesThePartInStorageOfItsOwn) {
  const at::Tensor input = whole();
  const CollectiveStep step = {.kind = CollectiveKind::kSlice, .dim = 2};
  const at::Tensor out = convert_layout(step, input, nullptr, 1, kDegree, false);
  EXPECT_TRUE(out.equal(shard(whole(), 2, 1)));
  EXPECT_EQ(out.storage().nbytes(), 12 * sizeof(float));
}

}  // namespace
}  // namespace shardwise
