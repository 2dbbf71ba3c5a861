// Where each tensor lies inside a .safetensors file: the header, without the data.
//
// The file: 8 bytes little-endian header length n, then n bytes of JSON
//   {"__metadata__": {text: text}, "<name>": {"dtype": "F32", "shape": [2, 3],
//    "data_offsets": [begin, end]}, ...}
// then the data; offsets count from its beginning. The tensors cover the data without overlap and
// without holes. Source: the safetensors format, huggingface/safetensors README, "Format".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/units.h"

namespace shardwise {

enum class TensorType {
  kBool,
  kUInt8,
  kInt8,
  kFloat8E5M2,
  kFloat8E4M3,
  kInt16,
  kUInt16,
  kFloat16,
  kBFloat16,
  kInt32,
  kUInt32,
  kFloat32,
  kInt64,
  kUInt64,
  kFloat64,
};

// Name in files: "F32", "BF16", "BOOL".
std::string_view tensor_type_name(TensorType type);
// Bytes of one element.
Bytes element_size(TensorType type);

// A tensor to be written. Row-major; no dimensions mean a single number.
struct TensorSpec {
  std::string name;
  TensorType type = TensorType::kFloat32;
  std::vector<std::int64_t> shape = {};
};

// Bytes of the data. Throws InputError naming the tensor if a dimension is negative or the size
// exceeds 2^50 bytes.
Bytes tensor_bytes(const TensorSpec& tensor);

struct TensorEntry {
  TensorSpec tensor;
  std::int64_t begin = 0;  // first byte, from the beginning of the data
  std::int64_t end = 0;    // one past the last

  Bytes size() const { return Bytes(end - begin); }
};

using TensorMetadata = std::map<std::string, std::string>;

// The reference implementation refuses longer headers.
inline constexpr std::int64_t kMaxSafetensorsHeader = 100'000'000;

class SafetensorsLayout {
 public:
  // Layout of a new file: wide types first, then by name, so that each tensor is aligned to its
  // elements and the same tensors give the same bytes (the reference implementation does so too).
  // Throws InputError for a name given twice, a size as in tensor_bytes(), and a header that would
  // be too long.
  static SafetensorsLayout make(std::vector<TensorSpec> tensors, TensorMetadata metadata = {});

  // Reads the JSON of a header whose file has `data_size` bytes after it. Distrusts everything:
  // throws InputError labelled `file_name` for unknown types, sizes that do not fit the shape,
  // overlaps, holes, and data that is missing or left over. Allocates no more than the header asks
  // to be stored, a constant times its length.
  static SafetensorsLayout parse(std::string_view header,
                                 std::int64_t data_size,
                                 const std::string& file_name);

  // In the order of the data.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  // The tensor of this name, or null.
  const TensorEntry* find(std::string_view name) const;
  const TensorMetadata& metadata() const { return metadata_; }

  // Header length, header, padding: everything before the data. Ends at a multiple of 8 bytes.
  std::string preamble() const;
  // Where the data begins in the file made from preamble(); for a parsed header, where it began.
  std::int64_t data_begin() const { return data_begin_; }
  std::int64_t data_size() const;
  std::int64_t file_size() const { return data_begin_ + data_size(); }

 private:
  SafetensorsLayout(std::vector<TensorEntry> tensors, TensorMetadata metadata);

  std::vector<TensorEntry> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  TensorMetadata metadata_;
  std::int64_t data_begin_ = 0;
};

}  // namespace shardwise
