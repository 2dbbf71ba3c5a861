// Where a parameter lies in the tensors of a checkpoint. `models` says it for each family,
// `runtime` reads and writes by it; neither knows the other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shardwise {

// A part of a parameter, indices [leading_begin, leading_begin + leading_size) of its dimension 0,
// as it lies in one tensor of a file.
//
// The file's tensor is a matrix [rows, columns], row-major: columns = its last dimension, or 1 if
// it has only one dimension. The part's elements, in their own row-major order, fill consecutive
// rows from `row_offset` on, all columns of each. `transposed` (two dimensions only): the same
// holds for the transpose of the file's tensor, so file_shape = [columns, rows].
struct FileSlice {
  std::string file_name;  // "model.layers.3.self_attn.q_proj.weight"
  std::vector<std::int64_t> file_shape;
  bool transposed = false;
  std::int64_t leading_begin = 0;
  std::int64_t leading_size = 0;
  std::int64_t row_offset = 0;

  bool operator==(const FileSlice&) const = default;
};

// Position in the file's tensor, row-major, of element `index` of the part.
std::int64_t file_index(const FileSlice& slice, std::int64_t index);

// One parameter of the graph: tensor `tensor` of the block of layer `layer`. Its slices cover
// dimension 0 without gap or overlap, in order. Tied aliases are in no file and have none.
struct ParameterSlices {
  int layer = 0;
  int tensor = 0;  // index into Block::tensors
  std::vector<FileSlice> slices;

  bool operator==(const ParameterSlices&) const = default;
};

using CheckpointMap = std::vector<ParameterSlices>;

}  // namespace shardwise
