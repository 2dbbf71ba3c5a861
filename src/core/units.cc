#include "core/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/errors.h"
#include "core/text.h"

namespace shardwise {

namespace {

struct UnitName {
  std::string_view name;
  double factor;  // how many of the base unit
};

constexpr double kKi = 1024;
constexpr double kMi = kKi * 1024;
constexpr double kGi = kMi * 1024;
constexpr double kTi = kGi * 1024;
constexpr double kPi = kTi * 1024;

// Bytes. Letter case is meaning here: B is a byte, b a bit.
constexpr std::array kSizeUnits = {
    UnitName{"B", 1},
    UnitName{"kB", 1e3},
    UnitName{"KB", 1e3},
    UnitName{"MB", 1e6},
    UnitName{"GB", 1e9},
    UnitName{"TB", 1e12},
    UnitName{"PB", 1e15},
    UnitName{"KiB", kKi},
    UnitName{"MiB", kMi},
    UnitName{"GiB", kGi},
    UnitName{"TiB", kTi},
    UnitName{"PiB", kPi},
};

// Bytes per second.
constexpr std::array kRateUnits = {
    UnitName{"B/s", 1},          UnitName{"kB/s", 1e3},       UnitName{"KB/s", 1e3},
    UnitName{"MB/s", 1e6},       UnitName{"GB/s", 1e9},       UnitName{"TB/s", 1e12},
    UnitName{"KiB/s", kKi},      UnitName{"MiB/s", kMi},      UnitName{"GiB/s", kGi},
    UnitName{"TiB/s", kTi},      UnitName{"bit/s", 1.0 / 8},  UnitName{"kbit/s", 1e3 / 8},
    UnitName{"Mbit/s", 1e6 / 8}, UnitName{"Gbit/s", 1e9 / 8}, UnitName{"Tbit/s", 1e12 / 8},
    UnitName{"kb/s", 1e3 / 8},   UnitName{"Mb/s", 1e6 / 8},   UnitName{"Gb/s", 1e9 / 8},
    UnitName{"Tb/s", 1e12 / 8},  UnitName{"Mbps", 1e6 / 8},   UnitName{"Gbps", 1e9 / 8},
    UnitName{"Tbps", 1e12 / 8},
};

// Seconds.
constexpr std::array kTimeUnits = {
    UnitName{"ps", 1e-12},
    UnitName{"ns", 1e-9},
    UnitName{"us", 1e-6},
    UnitName{"ms", 1e-3},
    UnitName{"s", 1},
    UnitName{"min", 60},
    UnitName{"h", 3600},
};

// Floating-point operations per second.
constexpr std::array kFlopRateUnits = {
    UnitName{"FLOP/s", 1},
    UnitName{"MFLOP/s", 1e6},
    UnitName{"GFLOP/s", 1e9},
    UnitName{"TFLOP/s", 1e12},
    UnitName{"PFLOP/s", 1e15},
    UnitName{"EFLOP/s", 1e18},
    UnitName{"MFLOPS", 1e6},
    UnitName{"GFLOPS", 1e9},
    UnitName{"TFLOPS", 1e12},
    UnitName{"PFLOPS", 1e15},
    UnitName{"EFLOPS", 1e18},
};

// What a kind of quantity looks like, for parsing and for the message when parsing fails.
struct QuantityKind {
  std::string_view description;
  std::span<const UnitName> units;
};

constexpr QuantityKind kSize = {"a size with its unit, such as \"40 GiB\" or \"512 MB\"",
                                kSizeUnits};
constexpr QuantityKind kRate = {"a bandwidth with its unit, such as \"300 GB/s\" or \"100 Gbit/s\"",
                                kRateUnits};
constexpr QuantityKind kTime = {"a time with its unit, such as \"8 us\" or \"1.5 ms\"", kTimeUnits};
constexpr QuantityKind kFlopRate = {"a compute rate with its unit, such as \"989 TFLOP/s\"",
                                    kFlopRateUnits};

[[noreturn]] void reject(const QuantityKind& kind,
                         const std::string& text,
                         const std::string& where,
                         const std::string& remedy) {
  throw InputError(where, fmt::format("expected {}, got \"{}\"{}", kind.description, text, remedy));
}

// "" if `unit` resembles nothing known.
std::string unit_remedy(const QuantityKind& kind, std::string_view unit) {
  std::vector<std::string> names;
  for (const UnitName& known : kind.units) {
    names.emplace_back(known.name);
  }
  const std::string as_rate = std::string(unit) + "/s";
  const bool lacks_second = std::find(names.begin(), names.end(), as_rate) != names.end();
  const std::optional<std::string> match = lacks_second ? as_rate : closest_match(unit, names);
  return match ? fmt::format("; did you mean {}?", *match)
               : fmt::format("; the units are {}", join(names, ", "));
}

// Number of base units in `text`.
double parse_quantity(const QuantityKind& kind, const std::string& text, const std::string& where) {
  const std::string_view body = trim(text);
  double value = 0;
  const auto [end, error] = std::from_chars(body.data(), body.data() + body.size(), value);
  if (error != std::errc() || !std::isfinite(value)) {
    reject(kind, text, where, "");
  }
  if (std::signbit(value) && value != 0) {
    reject(kind, text, where, "; it cannot be negative");
  }
  const std::string_view unit = trim(body.substr(static_cast<std::size_t>(end - body.data())));
  if (unit.empty()) {
    if (value == 0) {
      return 0;  // zero is the same in every unit
    }
    reject(kind, text, where, "; add the unit");
  }
  for (const UnitName& known : kind.units) {
    if (known.name == unit) {
      if (!std::isfinite(value * known.factor)) {
        reject(kind, text, where, "; that is too large");
      }
      return value * known.factor;
    }
  }
  reject(kind, text, where, unit_remedy(kind, unit));
}

// Three significant digits: "1.50", "12.3", "123", and four for 1000 to 1023 of binary units.
std::string three_digits(double value) {
  if (value < 9.995) {
    return fmt::format("{:.2f}", value);
  }
  if (value < 99.95) {
    return fmt::format("{:.1f}", value);
  }
  return fmt::format("{:.0f}", value);
}

}  // namespace

Picoseconds to_picoseconds(Seconds time) {
  SHARDWISE_CHECK(time.count >= 0 && time.count < 4e6,
                  fmt::format("a time of {} s has no picosecond form", time.count));
  return Picoseconds(std::llround(time.count * 1e12));
}

std::string format_bytes(Bytes size) {
  constexpr std::array<std::string_view, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  const double magnitude = std::abs(static_cast<double>(size.count));
  if (magnitude < 1024) {
    return fmt::format("{} B", size.count);
  }
  double value = magnitude;
  std::size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {  // 1023.5 would print as 1024
    value /= 1024;
    ++unit;
  }
  return fmt::format("{}{} {}", size.count < 0 ? "-" : "", three_digits(value), kUnits[unit]);
}

std::string format_seconds(Seconds time) {
  const double magnitude = std::abs(time.count);
  const char* sign = time.count < 0 ? "-" : "";
  if (magnitude == 0) {
    return "0 s";
  }
  constexpr std::array<std::string_view, 5> kUnits = {"s", "ms", "us", "ns", "ps"};
  double value = magnitude;
  std::size_t unit = 0;
  while (value < 0.9995 && unit + 1 < kUnits.size()) {  // 0.9995 would print as 1.00
    value *= 1000;
    ++unit;
  }
  return fmt::format("{}{} {}", sign, three_digits(value), kUnits[unit]);
}

Bytes parse_bytes(const std::string& text, const std::string& where) {
  const double size = parse_quantity(kSize, text, where);
  if (size >= static_cast<double>(std::numeric_limits<std::int64_t>::max())) {
    reject(kSize, text, where, "; that is more than 2^63 bytes");
  }
  return Bytes(std::llround(size));
}

BytesPerSecond parse_bandwidth(const std::string& text, const std::string& where) {
  return BytesPerSecond(parse_quantity(kRate, text, where));
}

Seconds parse_duration(const std::string& text, const std::string& where) {
  return Seconds(parse_quantity(kTime, text, where));
}

FlopsPerSecond parse_flop_rate(const std::string& text, const std::string& where) {
  return FlopsPerSecond(parse_quantity(kFlopRate, text, where));
}

}  // namespace shardwise
