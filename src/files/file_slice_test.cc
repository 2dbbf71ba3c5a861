#include "files/file_slice.h"

#include <gtest/gtest.h>

namespace shardwise {
namespace {

TEST(FileSlice, WholeTensorKeepsItsOrder) {
  const FileSlice slice{"w", {6, 4}, false, 0, 2, 0};
  EXPECT_EQ(file_index(slice, 0), 0);
  EXPECT_EQ(file_index(slice, 23), 23);
}

TEST(FileSlice, RowsOfAFusedBiasFollowEachOther) {
  // q, k and v biases of 4 in one tensor of 12: element 1 of k is the sixth.
  const FileSlice slice{"c_attn.bias", {12}, false, 0, 4, 4};
  EXPECT_EQ(file_index(slice, 1), 5);
}

TEST(FileSlice, TransposedFusedMatrixIsReadByColumns) {
  // File [2 inputs, 12 outputs]; k starts at output 4. Our k is [4, 2]: element (1, 1) = index 3 is
  // output 5 of input 1, hence at 1 * 12 + 5.
  const FileSlice slice{"c_attn.weight", {2, 12}, true, 0, 4, 4};
  EXPECT_EQ(file_index(slice, 3), 17);
}

TEST(FileSlice, RowsOfAThreeDimensionalTensorAreItsLastDimension) {
  // gate_up [2 experts, 6, 5]: `up` of expert 1 begins in row 1 * 6 + 3 = 9, element 45.
  const FileSlice slice{"gate_up_proj", {2, 6, 5}, false, 1, 1, 9};
  EXPECT_EQ(file_index(slice, 0), 45);
}

}  // namespace
}  // namespace shardwise
