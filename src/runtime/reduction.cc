#include "runtime/reduction.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "core/errors.h"

namespace shardwise {
namespace {

// Elements added at once: the running sum stays in the first-level cache.
constexpr std::int64_t kTile = 1024;

// Store reads and writes of one stored type around an accumulator type.
struct Float32 {
  using Stored = float;
  using Sum = float;
  static float load(float value) { return value; }
  static float store(float value) { return value; }
};
struct Float64 {
  using Stored = double;
  using Sum = double;
  static double load(double value) { return value; }
  static double store(double value) { return value; }
};
struct Int64 {
  using Stored = std::int64_t;
  using Sum = std::int64_t;
  static std::int64_t load(std::int64_t value) { return value; }
  static std::int64_t store(std::int64_t value) { return value; }
};
struct BFloat16 {
  using Stored = std::uint16_t;
  using Sum = float;
  static float load(std::uint16_t bits) { return from_bfloat16(bits); }
  static std::uint16_t store(float value) { return to_bfloat16(value); }
};

template <typename Type>
void sum_typed(std::span<const void* const> blocks, void* out, std::int64_t count) {
  using Stored = typename Type::Stored;
  std::array<typename Type::Sum, kTile> sum;
  for (std::int64_t begin = 0; begin < count; begin += kTile) {
    const auto size = static_cast<std::size_t>(std::min(kTile, count - begin));
    const Stored* first = static_cast<const Stored*>(blocks[0]) + begin;
    for (std::size_t i = 0; i < size; ++i) {
      sum[i] = Type::load(first[i]);
    }
    for (std::size_t b = 1; b < blocks.size(); ++b) {
      const Stored* block = static_cast<const Stored*>(blocks[b]) + begin;
      for (std::size_t i = 0; i < size; ++i) {
        sum[i] += Type::load(block[i]);
      }
    }
    Stored* target = static_cast<Stored*>(out) + begin;
    for (std::size_t i = 0; i < size; ++i) {
      target[i] = Type::store(sum[i]);
    }
  }
}

}  // namespace

std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  const std::uint32_t tie_to_even = 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<std::uint16_t>((bits + tie_to_even) >> 16);
}

float from_bfloat16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

void sum_blocks(std::span<const void* const> blocks, void* out, std::int64_t count, WireType type) {
  SHARDWISE_CHECK(!blocks.empty(), "nothing to add");
  switch (type) {
    case WireType::kFloat32:
      return sum_typed<Float32>(blocks, out, count);
    case WireType::kBFloat16:
      return sum_typed<BFloat16>(blocks, out, count);
    case WireType::kFloat64:
      return sum_typed<Float64>(blocks, out, count);
    case WireType::kInt64:
      return sum_typed<Int64>(blocks, out, count);
    case WireType::kByte:
      break;
  }
  SHARDWISE_CHECK(false, "bytes cannot be added");
}

std::int64_t wire_bytes(WireType type) {
  switch (type) {
    case WireType::kFloat32:
      return 4;
    case WireType::kBFloat16:
      return 2;
    case WireType::kFloat64:
    case WireType::kInt64:
      return 8;
    case WireType::kByte:
      return 1;
  }
  SHARDWISE_CHECK(false, "unknown wire type");
}

}  // namespace shardwise
