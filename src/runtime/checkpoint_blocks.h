// Which rectangles of a file's tensor a rank's elements of a parameter are.
#pragma once

#include <cstdint>
#include <vector>

#include "files/file_slice.h"
#include "graph/layout.h"

namespace shardwise {

// Flat elements [begin, end) of a local tensor `shape`, which is the part `box` of a parameter of
// shape `global_shape`; what lies beyond the box is padding.
struct LocalElements {
  std::vector<std::int64_t> global_shape;
  std::vector<std::int64_t> shape;
  Box box;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// Rows [row, row + rows) x columns [column, column + columns) of the part that a FileSlice
// describes, as a matrix (the transpose of the file's, if `transposed`; row 0 is row_offset of the
// file's). Element (r, c) of the rectangle is local element `local` + r * local_stride + c.
struct MatrixBlock {
  std::int64_t row = 0;
  std::int64_t rows = 0;
  std::int64_t column = 0;
  std::int64_t columns = 0;
  std::int64_t local = 0;
  std::int64_t local_stride = 0;

  std::int64_t elements() const { return rows * columns; }
  bool operator==(const MatrixBlock&) const = default;
};

// Rectangles that together are the elements that lie in `slice`, padding left out, each element
// once, in local order.
std::vector<MatrixBlock> blocks_in_slice(const LocalElements& elements, const FileSlice& slice);

// The parameter as a tensor of its own: the optimizer's file holds it in the graph's shape.
FileSlice whole_parameter(const std::vector<std::int64_t>& global_shape);

}  // namespace shardwise
