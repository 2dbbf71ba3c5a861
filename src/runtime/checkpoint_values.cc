#include "runtime/checkpoint_values.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>

#include "core/errors.h"

namespace shardwise {

namespace {

// Largest buffer for values on their way, unless a single row needs more.
constexpr std::int64_t kBufferBytes = std::int64_t{1} << 20;

std::int64_t bytes_of_element(TensorType type) { return element_size(type).count; }

std::size_t to_size(std::int64_t count) { return static_cast<std::size_t>(count); }

// Elements of a file's tensor that follow each other, and where they are in the rectangle: `outer`
// runs of `inner` elements; (o, i) is local element local + o * outer_step + i * inner_step.
struct FileRange {
  std::int64_t first = 0;  // element of the file's tensor
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  std::int64_t local = 0;
  std::int64_t outer_step = 0;
  std::int64_t inner_step = 0;

  std::int64_t elements() const { return outer * inner; }
};

using RangeVisitor = std::function<void(const FileRange&)>;

// Visits the ranges of a rectangle, joined where the file has no gap, each small enough for a
// buffer. Lines are the file's rows: rows of the rectangle, or its columns if transposed.
void visit_ranges(const FileSlice& slice,
                  const MatrixBlock& block,
                  std::int64_t element_bytes,
                  const RangeVisitor& visit) {
  const bool turned = slice.transposed;
  const std::int64_t line_size = turned                        ? slice.file_shape.back()
                                 : slice.file_shape.size() > 1 ? slice.file_shape.back()
                                                               : 1;
  const std::int64_t first_line = turned ? block.column : slice.row_offset + block.row;
  const std::int64_t first_in_line = turned ? slice.row_offset + block.row : block.column;
  const std::int64_t lines = turned ? block.columns : block.rows;
  const std::int64_t width = turned ? block.rows : block.columns;
  const std::int64_t line_step = turned ? 1 : block.local_stride;
  const std::int64_t inner_step = turned ? block.local_stride : 1;
  const std::int64_t most = std::max<std::int64_t>(kBufferBytes / element_bytes / width, 1);
  const std::int64_t joined = width == line_size ? most : 1;
  for (std::int64_t line = 0; line < lines; line += joined) {
    visit({.first = (first_line + line) * line_size + first_in_line,
           .outer = std::min(joined, lines - line),
           .inner = width,
           .local = block.local + line * line_step,
           .outer_step = line_step,
           .inner_step = inner_step});
  }
}

// Where element (o, i) of a range is: o * outer + i * inner.
struct Steps {
  std::int64_t outer = 0;
  std::int64_t inner = 0;
};

template <typename Element>
void copy_as(const FileRange& range,
             const std::byte* from,
             const Steps& from_steps,
             std::byte* to,
             const Steps& to_steps) {
  const auto* source = reinterpret_cast<const Element*>(from);
  auto* target = reinterpret_cast<Element*>(to);
  for (std::int64_t o = 0; o < range.outer; ++o) {
    for (std::int64_t i = 0; i < range.inner; ++i) {
      target[o * to_steps.outer + i * to_steps.inner] =
          source[o * from_steps.outer + i * from_steps.inner];
    }
  }
}

void copy_elements(const FileRange& range,
                   std::int64_t element_bytes,
                   const std::byte* from,
                   const Steps& from_steps,
                   std::byte* to,
                   const Steps& to_steps) {
  SHARDWISE_CHECK(element_bytes == 4 || element_bytes == 2, "values are fp32 or bf16");
  const auto copy = element_bytes == 4 ? copy_as<std::uint32_t> : copy_as<std::uint16_t>;
  copy(range, from, from_steps, to, to_steps);
}

Steps local_steps(const FileRange& range) { return {range.outer_step, range.inner_step}; }
Steps file_steps(const FileRange& range) { return {range.inner, 1}; }

// Whether the range lies in memory as it does in the file.
bool is_contiguous(const FileRange& range) {
  return (range.inner == 1 || range.inner_step == 1) &&
         (range.outer == 1 || range.outer_step == range.inner);
}

template <typename To, typename From>
void convert(const std::byte* from, std::byte* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
    const To result = static_cast<To>(static_cast<float>(value));
    std::memcpy(to + i * static_cast<std::int64_t>(sizeof(To)), &result, sizeof(To));
  }
}

template <typename To>
void convert_to(TensorType from_type, const std::byte* from, std::byte* to, std::int64_t count) {
  switch (from_type) {
    case TensorType::kFloat64:
      return convert<To, double>(from, to, count);
    case TensorType::kFloat32:
      return convert<To, float>(from, to, count);
    case TensorType::kFloat16:
      return convert<To, c10::Half>(from, to, count);
    case TensorType::kBFloat16:
      return convert<To, c10::BFloat16>(from, to, count);
    default:
      SHARDWISE_CHECK(false, "check_tensor() has looked at the type");
  }
}

void convert_values(TensorType from_type,
                    const std::byte* from,
                    TensorType to_type,
                    std::byte* to,
                    std::int64_t count) {
  if (to_type == TensorType::kFloat32) {
    convert_to<float>(from_type, from, to, count);
  } else {
    convert_to<c10::BFloat16>(from_type, from, to, count);
  }
}

bool is_readable(TensorType type) {
  return type == TensorType::kFloat64 || type == TensorType::kFloat32 ||
         type == TensorType::kFloat16 || type == TensorType::kBFloat16;
}

}  // namespace

std::int64_t write_blocks(SafetensorsWriter& writer,
                          const FileSlice& slice,
                          const std::vector<MatrixBlock>& blocks,
                          TensorType type,
                          const std::byte* values,
                          std::int64_t begin) {
  const std::int64_t element = bytes_of_element(type);
  std::vector<std::byte> buffer;
  std::int64_t written = 0;
  const auto write = [&](const FileRange& range) {
    const std::byte* local = values + (range.local - begin) * element;
    const std::size_t size = to_size(range.elements() * element);
    written += range.elements() * element;
    if (is_contiguous(range)) {
      writer.write(slice.file_name, range.first * element, {local, size});
      return;
    }
    buffer.resize(size);
    copy_elements(range, element, local, local_steps(range), buffer.data(), file_steps(range));
    writer.write(slice.file_name, range.first * element, buffer);
  };
  for (const MatrixBlock& block : blocks) {
    visit_ranges(slice, block, element, write);
  }
  return written;
}

void read_blocks(const SafetensorsReader& reader,
                 const FileSlice& slice,
                 const std::vector<MatrixBlock>& blocks,
                 TensorType type,
                 std::byte* values,
                 std::int64_t begin,
                 const std::string& where) {
  check_tensor(reader, slice, where);
  const TensorType file_type = reader.at(slice.file_name).tensor.type;
  const std::int64_t file_element = bytes_of_element(file_type);
  const std::int64_t element = bytes_of_element(type);
  std::vector<std::byte> raw;
  std::vector<std::byte> converted;
  const auto read = [&](const FileRange& range) {
    raw.resize(to_size(range.elements() * file_element));
    reader.read(slice.file_name, range.first * file_element, raw);
    std::vector<std::byte>* ready = &raw;
    if (file_type != type) {
      converted.resize(to_size(range.elements() * element));
      convert_values(file_type, raw.data(), type, converted.data(), range.elements());
      ready = &converted;
    }
    copy_elements(range,
                  element,
                  ready->data(),
                  file_steps(range),
                  values + (range.local - begin) * element,
                  local_steps(range));
  };
  for (const MatrixBlock& block : blocks) {
    visit_ranges(slice, block, file_element, read);
  }
}

void check_tensor(const SafetensorsReader& reader,
                  const FileSlice& slice,
                  const std::string& where) {
  const std::string place = fmt::format("{}: tensor '{}'", where, slice.file_name);
  if (!reader.contains(slice.file_name)) {
    throw InputError(
        place,
        fmt::format("expected it with shape [{}], found no such tensor; is it a checkpoint "
                    "of this model?",
                    fmt::join(slice.file_shape, ", ")));
  }
  const TensorSpec& found = reader.at(slice.file_name).tensor;
  if (found.shape != slice.file_shape) {
    throw InputError(place,
                     fmt::format("expected shape [{}], found [{}]; is it a checkpoint of this "
                                 "model?",
                                 fmt::join(slice.file_shape, ", "),
                                 fmt::join(found.shape, ", ")));
  }
  if (!is_readable(found.type)) {
    throw InputError(place,
                     fmt::format("expected F32, BF16, F16 or F64 values, found {}; convert the "
                                 "checkpoint first",
                                 tensor_type_name(found.type)));
  }
}

}  // namespace shardwise
