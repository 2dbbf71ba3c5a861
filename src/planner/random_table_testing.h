// A cost table for tests of the planner.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cost/cost_table.h"

namespace shardwise::testing {

// Every time is a random number that depends on the question only: no law of nature holds.
class RandomTable final : public CostTable {
 public:
  explicit RandomTable(std::uint64_t seed) : seed_(seed) {}

  Estimate op_time(const Op& op,
                   std::span<const std::int64_t> sizes,
                   Direction direction,
                   Precision,
                   int type) const override {
    std::uint64_t key = mix(1, static_cast<std::uint64_t>(op.kind));
    for (const std::int64_t size : sizes) {
      key = mix(key, static_cast<std::uint64_t>(size));
    }
    return draw(
        mix(mix(key, static_cast<std::uint64_t>(direction)), static_cast<std::uint64_t>(type)), 40);
  }
  Estimate collective_time(CollectiveKind kind,
                           Bytes payload,
                           Precision,
                           const GroupPlacement& placement) const override {
    std::uint64_t key = mix(2, static_cast<std::uint64_t>(kind));
    key = mix(key, static_cast<std::uint64_t>(payload.count));
    key = mix(key,
              static_cast<std::uint64_t>(placement.ranks) * 8 +
                  static_cast<std::uint64_t>(placement.level));
    return draw(mix(key, static_cast<std::uint64_t>(placement.concurrent)), 20);
  }
  Estimate transfer_time(Bytes size, int level, int concurrent) const override {
    const std::uint64_t key = mix(3, static_cast<std::uint64_t>(size.count));
    return draw(
        mix(key, static_cast<std::uint64_t>(level) * 16 + static_cast<std::uint64_t>(concurrent)),
        20);
  }
  Estimate optimizer_time(std::int64_t elements, Precision, int type) const override {
    return draw(mix(mix(4, static_cast<std::uint64_t>(elements)), static_cast<std::uint64_t>(type)),
                60);
  }
  Estimate accumulate_time(Bytes size, int type) const override {
    return draw(
        mix(mix(5, static_cast<std::uint64_t>(size.count)), static_cast<std::uint64_t>(type)), 10);
  }
  double overlap_fraction(int) const override { return seed_ % 3 == 0 ? 0.0 : 0.5; }
  Estimate step_overhead(int ranks) const override {
    return draw(mix(6, static_cast<std::uint64_t>(ranks)), 30);
  }
  Bytes process_memory() const override { return Bytes(10); }
  std::string provenance() const override { return "random"; }

 private:
  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    std::uint64_t x = a * 0x9E3779B97F4A7C15ULL + b + 0x7F4A7C15ULL;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9ULL;
    return x ^ (x >> 32);
  }
  Estimate draw(std::uint64_t key, std::uint64_t most) const {
    return {to_seconds(Picoseconds(static_cast<std::int64_t>(1 + mix(key, seed_) % most))), false};
  }

  std::uint64_t seed_;
};

}  // namespace shardwise::testing
