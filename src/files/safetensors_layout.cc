#include "files/safetensors_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>

#include "core/errors.h"
#include "core/text.h"
#include "files/json.h"

namespace shardwise {

namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr std::int64_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

struct TypeFacts {
  TensorType type;
  std::string_view name;
  std::int64_t size;
};

constexpr std::array<TypeFacts, 15> kTypes = {{{TensorType::kBool, "BOOL", 1},
                                               {TensorType::kUInt8, "U8", 1},
                                               {TensorType::kInt8, "I8", 1},
                                               {TensorType::kFloat8E5M2, "F8_E5M2", 1},
                                               {TensorType::kFloat8E4M3, "F8_E4M3", 1},
                                               {TensorType::kInt16, "I16", 2},
                                               {TensorType::kUInt16, "U16", 2},
                                               {TensorType::kFloat16, "F16", 2},
                                               {TensorType::kBFloat16, "BF16", 2},
                                               {TensorType::kInt32, "I32", 4},
                                               {TensorType::kUInt32, "U32", 4},
                                               {TensorType::kFloat32, "F32", 4},
                                               {TensorType::kInt64, "I64", 8},
                                               {TensorType::kUInt64, "U64", 8},
                                               {TensorType::kFloat64, "F64", 8}}};

const TypeFacts& facts_of(TensorType type) {
  const auto* facts = std::find_if(
      kTypes.begin(), kTypes.end(), [&](const TypeFacts& known) { return known.type == type; });
  SHARDWISE_CHECK(facts != kTypes.end(), "unknown type of tensor");
  return *facts;
}

// Size of the data; nothing if it is negative or too large to be true.
std::optional<std::int64_t> byte_count(TensorType type, const std::vector<std::int64_t>& shape) {
  constexpr std::int64_t kMost = std::int64_t{1} << 50;
  std::int64_t count = facts_of(type).size;
  bool is_empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) {
      return std::nullopt;
    }
    if (extent == 0) {
      is_empty = true;
    } else if (__builtin_mul_overflow(count, extent, &count) || count > kMost) {
      return std::nullopt;
    }
  }
  return is_empty ? 0 : count;
}

const char* const kSizeExpectation =
    "expected dimensions of at least 0 and at most 2^50 bytes in all, found shape ";

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string json_text(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

TensorType parse_type(const JsonValue& value) {
  std::vector<std::string> names;
  for (const TypeFacts& facts : kTypes) {
    if (facts.name == value.as_string()) {
      return facts.type;
    }
    names.emplace_back(facts.name);
  }
  throw value.unexpected("one of the types " + join(names, ", "));
}

TensorEntry parse_entry(const std::string& name, const JsonValue& value) {
  TensorEntry entry;
  entry.tensor.name = name;
  entry.tensor.type = parse_type(value.at("dtype"));
  for (const JsonValue& extent : value.at("shape").items()) {
    entry.tensor.shape.push_back(extent.as_int64(0));
  }
  const JsonValue offsets = value.at("data_offsets");
  const std::vector<JsonValue> ends = offsets.items();
  if (ends.size() != 2) {
    throw offsets.unexpected("two offsets");
  }
  entry.begin = ends[0].as_int64(0);
  entry.end = ends[1].as_int64(0);
  const std::optional<std::int64_t> size = byte_count(entry.tensor.type, entry.tensor.shape);
  if (!size) {
    throw value.error(kSizeExpectation + shape_text(entry.tensor.shape));
  }
  if (entry.end < entry.begin || entry.end - entry.begin != *size) {
    throw offsets.error(
        fmt::format("expected the {} bytes of shape {} of {}, found {} to {}; the "
                    "file is damaged",
                    *size,
                    shape_text(entry.tensor.shape),
                    tensor_type_name(entry.tensor.type),
                    entry.begin,
                    entry.end));
  }
  return entry;
}

TensorMetadata parse_metadata(const JsonValue& value) {
  TensorMetadata metadata;
  for (const JsonMember& member : value.members()) {
    metadata[member.key] = member.value.as_string();
  }
  return metadata;
}

// Throws unless the tensors, sorted by place, cover [0, data_size) without overlaps and holes.
void check_cover(const std::vector<TensorEntry>& tensors,
                 std::int64_t data_size,
                 const std::string& file_name) {
  std::int64_t place = 0;
  for (const TensorEntry& entry : tensors) {
    if (entry.begin != place) {
      throw InputError(file_name,
                       fmt::format("expected tensor '{}' at byte {} of the data, where the one "
                                   "before it ends, found {}; the file is damaged",
                                   shown_in_message(entry.tensor.name),
                                   place,
                                   entry.begin));
    }
    place = entry.end;
  }
  if (place != data_size) {
    throw InputError(file_name,
                     fmt::format("expected {} bytes of data, found {}; the file is {}",
                                 place,
                                 data_size,
                                 place > data_size ? "cut off, copy it again" : "damaged"));
  }
}

}  // namespace

std::string_view tensor_type_name(TensorType type) { return facts_of(type).name; }

Bytes element_size(TensorType type) { return Bytes(facts_of(type).size); }

Bytes tensor_bytes(const TensorSpec& tensor) {
  const std::optional<std::int64_t> count = byte_count(tensor.type, tensor.shape);
  if (!count) {
    throw InputError("tensor '" + tensor.name + "'", kSizeExpectation + shape_text(tensor.shape));
  }
  return Bytes(*count);
}

SafetensorsLayout::SafetensorsLayout(std::vector<TensorEntry> tensors, TensorMetadata metadata)
    : tensors_(std::move(tensors)), metadata_(std::move(metadata)) {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    by_name_.emplace(tensors_[i].tensor.name, i);
  }
}

SafetensorsLayout SafetensorsLayout::make(std::vector<TensorSpec> tensors,
                                          TensorMetadata metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return std::tuple(-element_size(a.type).count, a.name) <
           std::tuple(-element_size(b.type).count, b.name);
  });
  std::vector<TensorEntry> entries;
  std::int64_t place = 0;
  for (TensorSpec& tensor : tensors) {
    const std::int64_t begin = place;
    if (__builtin_add_overflow(begin, tensor_bytes(tensor).count, &place)) {
      throw InputError("tensor '" + tensor.name + "'", "expected less than 2^63 bytes in one file");
    }
    entries.push_back({.tensor = std::move(tensor), .begin = begin, .end = place});
  }
  SafetensorsLayout layout(std::move(entries), std::move(metadata));
  if (layout.by_name_.size() != layout.tensors_.size() || layout.find(kMetadataKey) != nullptr) {
    throw InputError("tensors of one file",
                     "expected each name once, and none called __metadata__");
  }
  layout.data_begin_ = static_cast<std::int64_t>(layout.preamble().size());
  if (layout.data_begin_ - kLengthBytes > kMaxSafetensorsHeader) {
    throw InputError("tensors of one file",
                     fmt::format("expected a header of at most {} bytes, found {}; split the file",
                                 kMaxSafetensorsHeader,
                                 layout.data_begin_ - kLengthBytes));
  }
  return layout;
}

SafetensorsLayout SafetensorsLayout::parse(std::string_view header,
                                           std::int64_t data_size,
                                           const std::string& file_name) {
  const JsonValue root = parse_json(header, file_name, Bytes(kMaxSafetensorsHeader));
  std::vector<TensorEntry> tensors;
  TensorMetadata metadata;
  for (const JsonMember& member : root.members()) {
    if (member.key == kMetadataKey) {
      metadata = parse_metadata(member.value);
    } else {
      tensors.push_back(parse_entry(member.key, member.value));
    }
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.tensor.name) < std::tie(b.begin, b.end, b.tensor.name);
  });
  check_cover(tensors, data_size, file_name);
  SafetensorsLayout layout(std::move(tensors), std::move(metadata));
  layout.data_begin_ = kLengthBytes + static_cast<std::int64_t>(header.size());
  return layout;
}

const TensorEntry* SafetensorsLayout::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::string SafetensorsLayout::preamble() const {
  std::string text = "{";
  const auto append = [&](std::string_view key, const std::string& value) {
    text += fmt::format("{}{}:{}", text.size() > 1 ? "," : "", json_text(key), value);
  };
  if (!metadata_.empty()) {
    append(kMetadataKey, json_text(metadata_));
  }
  for (const TensorEntry& entry : tensors_) {
    append(entry.tensor.name,
           fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                       tensor_type_name(entry.tensor.type),
                       fmt::join(entry.tensor.shape, ","),
                       entry.begin,
                       entry.end));
  }
  text += '}';
  constexpr std::size_t kAlignment = 8;
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  std::string length(kLengthBytes, '\0');
  const auto count = static_cast<std::uint64_t>(text.size());
  std::memcpy(length.data(), &count, sizeof(count));
  return length + text;
}

std::int64_t SafetensorsLayout::data_size() const {
  return tensors_.empty() ? 0 : tensors_.back().end;
}

}  // namespace shardwise
