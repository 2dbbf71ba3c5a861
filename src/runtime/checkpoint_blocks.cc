#include "runtime/checkpoint_blocks.h"

#include <algorithm>
#include <functional>

#include "core/errors.h"

namespace shardwise {

namespace {

std::int64_t product(const std::vector<std::int64_t>& shape, std::size_t from) {
  std::int64_t result = 1;
  for (std::size_t d = from; d < shape.size(); ++d) {
    result *= shape[d];
  }
  return result;
}

// `count` elements that follow each other both locally and in the whole parameter.
using RunVisitor = std::function<void(std::int64_t local, std::int64_t global, std::int64_t count)>;

// Visits the longest runs of the box, cut at [begin, end), in local order.
class RunWalk {
 public:
  RunWalk(const LocalElements& elements, const RunVisitor& visit)
      : elements_(elements), visit_(visit) {
    run_dims_from_ = elements.shape.size();
    while (run_dims_from_ > 0 && is_whole(run_dims_from_ - 1)) {
      --run_dims_from_;
    }
    // The dimension before may be cut and still ends each run.
    run_dims_from_ -= run_dims_from_ > 0 ? 1 : 0;
  }

  void walk() { descend(0, 0, 0); }

 private:
  bool is_whole(std::size_t d) const {
    const std::int64_t size = elements_.global_shape[d];
    return elements_.shape[d] == size && elements_.box.begin[d] == 0 &&
           elements_.box.end[d] == size;
  }

  void descend(std::size_t d, std::int64_t local, std::int64_t global) {
    if (elements_.shape.empty()) {
      emit(0, 0, 1);
      return;
    }
    const std::int64_t local_stride = product(elements_.shape, d + 1);
    const std::int64_t global_stride = product(elements_.global_shape, d + 1);
    const std::int64_t first = elements_.box.begin[d];
    const std::int64_t size = std::max<std::int64_t>(elements_.box.end[d] - first, 0);
    if (d == run_dims_from_) {
      emit(local, global + first * global_stride, size * local_stride);
      return;
    }
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t here = local + i * local_stride;
      if (here < elements_.end && here + local_stride > elements_.begin) {
        descend(d + 1, here, global + (first + i) * global_stride);
      }
    }
  }

  void emit(std::int64_t local, std::int64_t global, std::int64_t count) const {
    const std::int64_t skipped = std::max<std::int64_t>(elements_.begin - local, 0);
    const std::int64_t end = std::min(elements_.end - local, count);
    if (skipped < end) {
      visit_(local + skipped, global + skipped, end - skipped);
    }
  }

  const LocalElements& elements_;
  const RunVisitor& visit_;
  std::size_t run_dims_from_ = 0;  // a run is a range of this dimension, whole in those after it
};

// Adds a rectangle; one that continues the rectangle before becomes a part of it.
void append(std::vector<MatrixBlock>& blocks, const MatrixBlock& next) {
  if (!blocks.empty()) {
    MatrixBlock& last = blocks.back();
    const bool continues = next.column == last.column && next.columns == last.columns &&
                           next.row == last.row + last.rows;
    const std::int64_t stride = last.rows == 1 ? next.local - last.local : last.local_stride;
    const bool steps_alike = next.local == last.local + last.rows * stride &&
                             (next.rows == 1 || next.local_stride == stride);
    if (continues && steps_alike) {
      last.rows += next.rows;
      last.local_stride = stride;
      return;
    }
  }
  blocks.push_back(next);
}

// Elements [index, index + count) of a part with rows of `columns`.
void append_range(std::vector<MatrixBlock>& blocks,
                  std::int64_t columns,
                  std::int64_t index,
                  std::int64_t local,
                  std::int64_t count) {
  while (count > 0) {
    const std::int64_t column = index % columns;
    const bool has_whole_rows = column == 0 && count >= columns;
    const std::int64_t rows = has_whole_rows ? count / columns : 1;
    const std::int64_t width = has_whole_rows ? columns : std::min(count, columns - column);
    append(blocks,
           {.row = index / columns,
            .rows = rows,
            .column = column,
            .columns = width,
            .local = local,
            .local_stride = width});
    index += rows * width;
    local += rows * width;
    count -= rows * width;
  }
}

}  // namespace

std::vector<MatrixBlock> blocks_in_slice(const LocalElements& elements, const FileSlice& slice) {
  const std::int64_t stride = product(elements.global_shape, 1);
  const std::int64_t slice_begin = slice.leading_begin * stride;
  const std::int64_t slice_end = slice_begin + slice.leading_size * stride;
  const std::int64_t columns = slice.transposed              ? slice.file_shape.front()
                               : slice.file_shape.size() > 1 ? slice.file_shape.back()
                                                             : 1;
  SHARDWISE_CHECK(columns > 0 || slice_begin == slice_end, "a slice with elements has columns");
  std::vector<MatrixBlock> blocks;
  const RunVisitor visit = [&](std::int64_t local, std::int64_t global, std::int64_t count) {
    const std::int64_t from = std::max(global, slice_begin);
    const std::int64_t to = std::min(global + count, slice_end);
    if (from < to) {
      append_range(blocks, columns, from - slice_begin, local + from - global, to - from);
    }
  };
  RunWalk(elements, visit).walk();
  return blocks;
}

FileSlice whole_parameter(const std::vector<std::int64_t>& global_shape) {
  FileSlice slice;
  slice.file_shape = global_shape;
  slice.leading_size = global_shape.empty() ? 1 : global_shape.front();
  return slice;
}

}  // namespace shardwise
