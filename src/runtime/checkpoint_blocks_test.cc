#include "runtime/checkpoint_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace shardwise {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(CheckpointBlocks, AWholeParameterIsOneRectangle) {
  const LocalElements elements{{6, 4}, {6, 4}, {{0, 0}, {6, 4}}, 0, 24};
  EXPECT_THAT(blocks_in_slice(elements, whole_parameter({6, 4})),
              ElementsAre(MatrixBlock{0, 6, 0, 4, 0, 4}));
}

TEST(CheckpointBlocks, AColumnShardIsOneRectangleWithoutItsPadding) {
  // Columns 3 and 4 of 5, in a local tensor with a third, padded column.
  const LocalElements elements{{4, 5}, {4, 3}, {{0, 3}, {4, 5}}, 0, 12};
  EXPECT_THAT(blocks_in_slice(elements, whole_parameter({4, 5})),
              ElementsAre(MatrixBlock{0, 4, 3, 2, 0, 3}));
}

TEST(CheckpointBlocks, AShareOfStateMayBeginInsideARow) {
  // Elements 3 .. 11 of a 4 x 4 matrix: the end of row 0, rows 1 and 2 up to element 11.
  const LocalElements elements{{4, 4}, {4, 4}, {{0, 0}, {4, 4}}, 3, 11};
  EXPECT_THAT(blocks_in_slice(elements, whole_parameter({4, 4})),
              ElementsAre(MatrixBlock{0, 1, 3, 1, 3, 1},
                          MatrixBlock{1, 1, 0, 4, 4, 4},
                          MatrixBlock{2, 1, 0, 3, 8, 3}));
}

TEST(CheckpointBlocks, PaddingAloneIsNothing) {
  // Rows 4 .. 6 of 4: the second of two shards of a vocabulary of 4 over 4 ranks, padded.
  const LocalElements beyond{{4, 3}, {2, 3}, {{4, 0}, {4, 3}}, 0, 6};
  EXPECT_THAT(blocks_in_slice(beyond, whole_parameter({4, 3})), IsEmpty());
  const LocalElements past_the_end{{4, 3}, {2, 3}, {{2, 0}, {4, 3}}, 6, 9};
  EXPECT_THAT(blocks_in_slice(past_the_end, whole_parameter({4, 3})), IsEmpty());
}

TEST(CheckpointBlocks, HeadsOfAQueryAreRowsOfTheFile) {
  // q [n 2, r 2, d 3, h 5] is 12 rows of 5; a rank holds r = 1 of both n: rows 3..5 and 9..11.
  const LocalElements elements{{2, 2, 3, 5}, {2, 1, 3, 5}, {{0, 1, 0, 0}, {2, 2, 3, 5}}, 0, 30};
  FileSlice slice;
  slice.file_shape = {12, 5};
  slice.leading_size = 2;
  EXPECT_THAT(blocks_in_slice(elements, slice),
              ElementsAre(MatrixBlock{3, 3, 0, 5, 0, 5}, MatrixBlock{9, 3, 0, 5, 15, 5}));
}

TEST(CheckpointBlocks, ASliceTakesItsLeadingIndices) {
  // Expert 1 of 3, each 2 x 4, lies in a tensor of its own.
  const LocalElements elements{{3, 2, 4}, {3, 2, 4}, {{0, 0, 0}, {3, 2, 4}}, 0, 24};
  FileSlice slice;
  slice.file_shape = {2, 4};
  slice.leading_begin = 1;
  slice.leading_size = 1;
  EXPECT_THAT(blocks_in_slice(elements, slice), ElementsAre(MatrixBlock{0, 2, 0, 4, 8, 4}));
}

// Every true element exactly once, at the file's place that its indices say, counted one by one.
TEST(CheckpointBlocks, CoversEveryElementOnceForRandomBoxesAndShares) {
  std::mt19937 random(1);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    LocalElements elements;
    std::int64_t local_count = 1;
    for (int d = 0; d < 3; ++d) {
      const std::int64_t size = draw(1, 4);
      const std::int64_t begin = draw(0, size);
      const std::int64_t end = draw(begin, size);
      elements.global_shape.push_back(size);
      elements.box.begin.push_back(begin);
      elements.box.end.push_back(end);
      elements.shape.push_back(end - begin + draw(0, 1));
      local_count *= elements.shape.back();
    }
    elements.begin = draw(0, local_count);
    elements.end = draw(elements.begin, local_count);
    std::set<std::pair<std::int64_t, std::int64_t>> expected;  // local, global
    for (std::int64_t local = elements.begin; local < elements.end; ++local) {
      std::int64_t rest = local;
      std::int64_t global = 0;
      std::int64_t stride = 1;
      bool is_real = true;
      for (std::size_t d = 3; d-- > 0;) {
        const std::int64_t index = elements.box.begin[d] + rest % elements.shape[d];
        rest /= elements.shape[d];
        is_real &= index < elements.box.end[d];
        global += index * stride;
        stride *= elements.global_shape[d];
      }
      if (is_real) {
        expected.insert({local, global});
      }
    }
    std::multiset<std::pair<std::int64_t, std::int64_t>> found;
    const std::int64_t columns = elements.global_shape.back();
    for (const MatrixBlock& block :
         blocks_in_slice(elements, whole_parameter(elements.global_shape))) {
      for (std::int64_t r = 0; r < block.rows; ++r) {
        for (std::int64_t c = 0; c < block.columns; ++c) {
          found.insert({block.local + r * block.local_stride + c,
                        (block.row + r) * columns + block.column + c});
        }
      }
    }
    EXPECT_THAT(found, ::testing::ElementsAreArray(expected));
  }
}

}  // namespace
}  // namespace shardwise
