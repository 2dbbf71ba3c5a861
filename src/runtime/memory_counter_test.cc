#include "runtime/memory_counter.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

namespace shardwise {
namespace {

TEST(MemoryCounter, CountsLiveTensorsAndTheirPeak) {
  install_memory_counter();
  const Bytes before = live_tensor_bytes();
  reset_memory_peak();
  const at::Tensor kept = at::empty({1000}, at::kFloat);
  { const at::Tensor dropped = at::empty({500}, at::kFloat); }
  EXPECT_EQ(live_tensor_bytes() - before, Bytes(4000));
  EXPECT_EQ(peak_tensor_bytes() - before, Bytes(6000));
  reset_memory_peak();
  EXPECT_EQ(peak_tensor_bytes() - before, Bytes(4000));
}

TEST(MemoryCounter, ViewsShareTheirStorage) {
  install_memory_counter();
  const Bytes before = live_tensor_bytes();
  const at::Tensor whole = at::empty({1000}, at::kFloat);
  const at::Tensor part = whole.narrow(0, 10, 20);
  EXPECT_EQ(live_tensor_bytes() - before, Bytes(4000));
}

TEST(MemoryCounter, ResidentMemoryIsAtMostItsPeak) {
  EXPECT_GT(resident_bytes(), Bytes(0));
  EXPECT_LE(resident_bytes(), peak_resident_bytes());
}

}  // namespace
}  // namespace shardwise
