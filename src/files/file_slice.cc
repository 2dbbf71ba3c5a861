#include "files/file_slice.h"

namespace shardwise {

std::int64_t file_index(const FileSlice& slice, std::int64_t index) {
  if (slice.transposed) {
    const std::int64_t columns = slice.file_shape.front();
    const std::int64_t rows = slice.file_shape.back();
    return (index % columns) * rows + slice.row_offset + index / columns;
  }
  const std::int64_t columns = slice.file_shape.size() > 1 ? slice.file_shape.back() : 1;
  return slice.row_offset * columns + index;
}

}  // namespace shardwise
