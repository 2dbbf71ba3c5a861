// Moves rectangles of a parameter between memory and the tensors of a checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "files/safetensors_reader.h"
#include "files/safetensors_writer.h"
#include "runtime/checkpoint_blocks.h"

namespace shardwise {

// Writes the rectangles of `slice` from `values`, elements of `type`, of which the first is local
// element `begin`. The file's tensor has the same type. Returns the bytes written.
std::int64_t write_blocks(SafetensorsWriter& writer,
                          const FileSlice& slice,
                          const std::vector<MatrixBlock>& blocks,
                          TensorType type,
                          const std::byte* values,
                          std::int64_t begin);

// Fills the rectangles of `slice` in `values`. The file's tensor may be F64, F32, F16 or BF16, the
// values F32 or BF16: rounded to fp32, then to the nearest bf16, ties to even. Throws InputError
// that begins with `where` (the checkpoint) for other types and for another shape, see
// check_tensor().
void read_blocks(const SafetensorsReader& reader,
                 const FileSlice& slice,
                 const std::vector<MatrixBlock>& blocks,
                 TensorType type,
                 std::byte* values,
                 std::int64_t begin,
                 const std::string& where);

// Throws InputError that names `where`, tensor, expected and found shape or type, unless the tensor
// is there as the slice says and holds floating-point numbers.
void check_tensor(const SafetensorsReader& reader,
                  const FileSlice& slice,
                  const std::string& where);

}  // namespace shardwise
