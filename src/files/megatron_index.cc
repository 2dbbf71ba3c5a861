#include "files/megatron_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/errors.h"
#include "files/input_file.h"

namespace shardwise {

namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr std::int64_t kHeaderBytes = 9 + 8 + 1 + 8 + 8;
constexpr std::size_t kChunk = 1 << 16;                      // entries read at a time
constexpr std::int64_t kMostTokens = std::int64_t{1} << 58;  // their bytes still fit 64 bits

[[noreturn]] void throw_damaged(const InputFile& file, const std::string& what) {
  throw InputError(file.path().string(), what + "; build it again with Megatron's preprocess_data");
}

// Value of type Number at `place` of the header.
template <typename Number>
Number header_value(const std::array<std::byte, kHeaderBytes>& header, std::size_t place) {
  Number value;
  std::memcpy(&value, header.data() + place, sizeof(value));
  return value;
}

std::optional<TensorType> token_type(std::uint8_t code) {
  switch (code) {
    case 1:
      return TensorType::kUInt8;
    case 2:
      return TensorType::kInt8;
    case 3:
      return TensorType::kInt16;
    case 4:
      return TensorType::kInt32;
    case 5:
      return TensorType::kInt64;
    case 8:
      return TensorType::kUInt16;
    default:
      return std::nullopt;  // 6 and 7 are float64 and float32
  }
}

// The header's facts with num_tokens still 0; its counts fit the size of the file.
MegatronIndex read_header(const InputFile& file) {
  const std::int64_t size = file.size();
  std::array<std::byte, kHeaderBytes> header{};
  if (size < kHeaderBytes) {
    throw_damaged(file, fmt::format("expected a Megatron index, found {} bytes", size));
  }
  file.read_at(0, header);
  if (std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0) {
    throw_damaged(file, "expected a Megatron index, which begins with MMIDIDX, found another file");
  }
  const auto version = header_value<std::uint64_t>(header, 9);
  if (version != 1) {
    throw_damaged(file, fmt::format("expected version 1 of the format, found {}", version));
  }
  const auto code = header_value<std::uint8_t>(header, 17);
  const std::optional<TensorType> type = token_type(code);
  if (!type) {
    throw_damaged(file, fmt::format("expected a type code 1 to 5 or 8, found {}", code));
  }
  const auto sequences = header_value<std::uint64_t>(header, 18);
  const auto documents = header_value<std::uint64_t>(header, 26);
  const auto most = static_cast<std::uint64_t>(size);  // each entry takes more than one byte
  const std::uint64_t expected =
      sequences > most || documents > most || documents == 0
          ? 0
          : static_cast<std::uint64_t>(kHeaderBytes) + 12 * sequences + 8 * documents;
  if (expected != most && (expected == 0 || expected + sequences != most)) {
    throw_damaged(file,
                  fmt::format("expected an index of {} sequences and {} document ends, found {} "
                              "bytes, which do not fit",
                              sequences,
                              documents,
                              size));
  }
  return {.type = *type,
          .num_sequences = static_cast<std::int64_t>(sequences),
          .num_documents = static_cast<std::int64_t>(documents) - 1};
}

// Calls visit(index, value) for each number of the array at `begin` of the file.
template <typename Number, typename Visit>
void for_each_number(const InputFile& file, std::int64_t begin, std::int64_t count, Visit visit) {
  std::vector<Number> chunk(std::min(kChunk, static_cast<std::size_t>(count)));
  for (std::int64_t first = 0; first < count; first += static_cast<std::int64_t>(kChunk)) {
    const auto length = std::min(count - first, static_cast<std::int64_t>(kChunk));
    const std::span<Number> part(chunk.data(), static_cast<std::size_t>(length));
    file.read_at(begin + first * static_cast<std::int64_t>(sizeof(Number)),
                 std::as_writable_bytes(part));
    for (std::int64_t i = 0; i < length; ++i) {
      visit(first + i, part[static_cast<std::size_t>(i)]);
    }
  }
}

// Checks that the documents end at rising sequences, from 0 to the last.
void check_documents(const InputFile& file, std::int64_t begin, const MegatronIndex& index) {
  std::int64_t last = 0;
  const std::int64_t count = index.num_documents + 1;
  for_each_number<std::int64_t>(file, begin, count, [&](std::int64_t i, std::int64_t end) {
    if (end < last || end > index.num_sequences || (i == 0 && end != 0)) {
      throw_damaged(file, fmt::format("expected document ends that rise from 0, found {}", end));
    }
    last = end;
  });
  if (last != index.num_sequences) {
    throw_damaged(file,
                  fmt::format("expected the last document to end at sequence {}, found {}",
                              index.num_sequences,
                              last));
  }
}

}  // namespace

MegatronIndex read_megatron_index(const std::filesystem::path& path) {
  const InputFile file(path);
  MegatronIndex index = read_header(file);
  const std::int64_t count = index.num_sequences;
  const std::int64_t pointers = kHeaderBytes + 4 * count;
  const std::int64_t token_bytes = element_size(index.type).count;
  // Lengths and pointers lie far apart: one chunk of pointers for each chunk of lengths.
  std::vector<std::int64_t> starts;
  for_each_number<std::int32_t>(
      file, kHeaderBytes, count, [&](std::int64_t i, std::int32_t length) {
        const std::size_t place = static_cast<std::size_t>(i) % kChunk;
        if (place == 0) {
          starts.resize(std::min(kChunk, static_cast<std::size_t>(count - i)));
          file.read_at(pointers + 8 * i, std::as_writable_bytes(std::span(starts)));
        }
        if (length < 0 || index.num_tokens > kMostTokens ||
            starts[place] != index.num_tokens * token_bytes) {
          throw_damaged(file,
                        fmt::format("expected sequence {} at byte {}, after the one before it, "
                                    "found byte {} and length {}",
                                    i,
                                    index.num_tokens * token_bytes,
                                    starts[place],
                                    length));
        }
        index.num_tokens += length;
      });
  check_documents(file, pointers + 8 * count, index);
  return index;
}

}  // namespace shardwise
