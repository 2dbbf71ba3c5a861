#include "runtime/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace shardwise {
namespace {

constexpr std::size_t kMebibyte = std::size_t{1} << 20;

TEST(Arena, TakesTheLowestPlaceThatFits) {
  Arena arena(kMebibyte);
  void* first = arena.allocate(256);
  void* second = arena.allocate(64);
  void* third = arena.allocate(128);
  arena.release(first);
  EXPECT_NE(arena.allocate(512), first) << "the hole is too small";
  EXPECT_EQ(arena.allocate(64), first);
  arena.release(second);
  EXPECT_EQ(arena.allocate(250), static_cast<char*>(first) + 64) << "holes side by side are one";
  arena.release(third);
}

TEST(Arena, WithoutRoomGivesNothing) {
  Arena arena(kMebibyte);
  EXPECT_EQ(arena.allocate(kMebibyte + 1), nullptr);
  EXPECT_EQ(arena.allocate(std::numeric_limits<std::size_t>::max()), nullptr);
  void* all = arena.allocate(kMebibyte);
  ASSERT_NE(all, nullptr);
  EXPECT_EQ(arena.allocate(1), nullptr);
  arena.release(all);
  EXPECT_EQ(arena.allocate(kMebibyte), all);
  EXPECT_EQ(Arena(0).allocate(1), nullptr);
}

// Against a plain list of what is in use: blocks never overlap, and everything can be had again.
TEST(Arena, KeepsBlocksApart) {
  const unsigned seed = 7;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  Arena arena(kMebibyte);
  struct Block {
    unsigned char* data;
    std::size_t size;
    unsigned char mark;
  };
  std::vector<Block> blocks;
  for (int i = 0; i < 20'000; ++i) {
    if (blocks.size() < 200 && random() % 2 == 0) {
      const std::size_t size = 1 + random() % 8'000;
      if (auto* data = static_cast<unsigned char*>(arena.allocate(size))) {
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(data) % Arena::kAlignment, 0u);
        ASSERT_TRUE(arena.owns(data));
        const auto mark = static_cast<unsigned char>(i);
        std::memset(data, mark, size);
        blocks.push_back({data, size, mark});
      }
    } else if (!blocks.empty()) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      const Block block = blocks.back();
      blocks.pop_back();
      ASSERT_TRUE(std::all_of(block.data, block.data + block.size, [&](unsigned char byte) {
        return byte == block.mark;
      }));
      arena.release(block.data);
    }
  }
  for (const Block& block : blocks) {
    arena.release(block.data);
  }
  EXPECT_NE(arena.allocate(kMebibyte), nullptr) << "all holes have joined";
  EXPECT_EQ(arena.high_water(), kMebibyte);
}

}  // namespace
}  // namespace shardwise
