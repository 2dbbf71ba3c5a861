#include "runtime/initial_values.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/errors.h"

namespace shardwise {
namespace {

// splitmix64: element `counter` of the stream `key`.
std::uint64_t random_bits(std::uint64_t key, std::uint64_t counter) {
  std::uint64_t z = key + (counter + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::uint64_t hash_of(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

// In (0, 1].
double uniform(std::uint64_t bits) { return static_cast<double>((bits >> 11) + 1) * 0x1p-53; }

double normal_value(std::uint64_t key, std::int64_t index) {
  const auto pair = static_cast<std::uint64_t>(index / 2);
  const double radius = std::sqrt(-2 * std::log(uniform(random_bits(key, 2 * pair))));
  const double angle = 2 * std::numbers::pi * uniform(random_bits(key, 2 * pair + 1));
  return index % 2 == 0 ? radius * std::cos(angle) : radius * std::sin(angle);
}

}  // namespace

void fill_initial_values(const InitialValues& what,
                         const Box& box,
                         const std::vector<std::int64_t>& local_shape,
                         float* out) {
  const std::size_t dims = local_shape.size();
  SHARDWISE_CHECK(box.begin.size() == dims && what.global_shape.size() == dims,
                  "box and shapes differ in their number of dimensions");
  std::fill_n(out, element_count(local_shape), 0.0f);
  if (box.empty() || what.initializer == Initializer::kZeros) {
    return;
  }
  const std::uint64_t key = random_bits(what.seed, hash_of(what.name));
  // `at` walks over the rows of the box: all indices but the last.
  std::vector<std::int64_t> at = box.begin;
  while (true) {
    std::int64_t global = 0;
    std::int64_t local = 0;
    for (std::size_t d = 0; d < dims; ++d) {
      global = global * what.global_shape[d] + at[d];
      local = local * local_shape[d] + (at[d] - box.begin[d]);
    }
    const std::int64_t row = dims == 0 ? 1 : box.end[dims - 1] - box.begin[dims - 1];
    for (std::int64_t i = 0; i < row; ++i) {
      out[local + i] = what.initializer == Initializer::kOnes
                           ? 1.0f
                           : static_cast<float>(what.stddev * normal_value(key, global + i));
    }
    std::size_t d = dims == 0 ? 0 : dims - 1;
    while (d > 0 && ++at[d - 1] == box.end[d - 1]) {
      at[d - 1] = box.begin[d - 1];
      --d;
    }
    if (d == 0) {
      return;
    }
  }
}

}  // namespace shardwise
