// Numbers that know their unit, the ids of the planner's things, and their text forms.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace shardwise {

// A number that knows its unit. Construction and reading are explicit, so a bare number can neither
// slip in nor out; only same-unit sums, scaling by a pure number and ratios are defined here.
template <typename Unit, typename Rep>
struct Quantity {
  Rep count{};

  constexpr Quantity() = default;
  constexpr explicit Quantity(Rep value) : count(value) {}
  constexpr auto operator<=>(const Quantity&) const = default;

  constexpr Quantity& operator+=(Quantity other) {
    count += other.count;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity other) {
    count -= other.count;
    return *this;
  }
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return Quantity(a.count + b.count);
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return Quantity(a.count - b.count);
  }
  friend constexpr Quantity operator*(Rep factor, Quantity a) { return Quantity(factor * a.count); }
  friend constexpr double operator/(Quantity a, Quantity b) {
    return static_cast<double>(a.count) / static_cast<double>(b.count);
  }
};

using Seconds = Quantity<struct SecondsUnit, double>;
using Bytes = Quantity<struct BytesUnit, std::int64_t>;
using Flops = Quantity<struct FlopsUnit, double>;  // floating-point operations, a multiply-add is 2
using BytesPerSecond = Quantity<struct BytesPerSecondUnit, double>;
using FlopsPerSecond = Quantity<struct FlopsPerSecondUnit, double>;

constexpr Seconds operator/(Bytes size, BytesPerSecond rate) {
  return Seconds(static_cast<double>(size.count) / rate.count);
}
constexpr Seconds operator/(Flops work, FlopsPerSecond rate) {
  return Seconds(work.count / rate.count);
}

// Times inside the planner and the evaluator: whole picoseconds, so that sums are associative and a
// result depends neither on the order of additions nor on threads. Rounded once, here.
using Picoseconds = Quantity<struct PicosecondsUnit, std::int64_t>;

// Nearest picosecond, halves away from zero. Requires 0 <= time < 4e6 s.
Picoseconds to_picoseconds(Seconds time);

constexpr Seconds to_seconds(Picoseconds time) {
  return Seconds(static_cast<double>(time.count) * 1e-12);
}

// "1.50 GiB", "96 B": three significant digits and a binary unit, for people.
std::string format_bytes(Bytes size);
// "12.3 ms", "4.5 us": three significant digits, for people.
std::string format_seconds(Seconds time);

// Quantities of files and flags. Each throws InputError (core/errors.h) whose message names `where`
// (such as "cluster.yaml:14: key 'bandwidth'"), shows an example with its unit and the text found.
//   bytes: "40 GiB", "80GB", "512 MiB", "0"       GB = 1e9, GiB = 2^30, B byte
//   rate:  "300 GB/s", "100 Gbit/s"               Gbit = 1e9 bit
//   time:  "8 us", "1.5 ms", "2 s", "10 min"
//   flops: "989 TFLOP/s"
Bytes parse_bytes(const std::string& text, const std::string& where);
BytesPerSecond parse_bandwidth(const std::string& text, const std::string& where);
Seconds parse_duration(const std::string& text, const std::string& where);
FlopsPerSecond parse_flop_rate(const std::string& text, const std::string& where);

}  // namespace shardwise
