// Reads `LAYERS: KEY=VALUE[|VALUE...]` (constraints.h).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/errors.h"
#include "core/text.h"
#include "graph/constraints.h"

namespace shardwise {

namespace {

using Subject = Constraint::Subject;

constexpr std::int64_t kLargestDegree = 1 << 20;

const std::vector<std::pair<std::string, Subject>>& keys() {
  static const std::vector<std::pair<std::string, Subject>> kKeys = {
      {"data", Subject::kDegree},
      {"tensor", Subject::kDegree},
      {"sequence", Subject::kDegree},
      {"experts", Subject::kDegree},
      {"boundary.0", Subject::kBoundary},
      {"boundary.1", Subject::kBoundary},
      {"boundary.2", Subject::kBoundary},
      {"boundary.3", Subject::kBoundary},
      {"recompute", Subject::kRecompute},
      {"state", Subject::kState},
      {"cut", Subject::kCut},
  };
  return kKeys;
}

class Reader {
 public:
  Reader(const std::string& text, const std::string& where) : text_(text), where_(where) {}

  [[noreturn]] void fail(const std::string& expected, std::string_view found) const {
    throw InputError(where_,
                     fmt::format("\"{}\": expected {}, found \"{}\"", text_, expected, found));
  }

  Subject subject(const std::string& key) const {
    std::vector<std::string> names;
    for (const auto& [name, subject] : keys()) {
      if (name == key) {
        return subject;
      }
      names.push_back(name);
    }
    throw InputError(
        where_,
        fmt::format(
            "\"{}\": expected a known key, found \"{}\"{}", text_, key, suggest(key, names)));
  }

  std::int64_t degree(const std::string& value) const {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < 1 ||
        number > kLargestDegree) {
      fail("a degree from 1 on, such as tensor=4", value);
    }
    return number;
  }

  template <typename Value, std::size_t count>
  std::int64_t enumerator(const std::string& value, const std::array<Value, count>& values) const {
    std::vector<std::string> names;
    for (const Value candidate : values) {
      names.push_back(to_string(candidate));
      if (names.back() == value) {
        return static_cast<std::int64_t>(candidate);
      }
    }
    fail("one of " + join(names, ", "), value);
  }

 private:
  const std::string& text_;
  const std::string& where_;
};

constexpr std::array kRecomputes = {Recompute::kNone, Recompute::kSelective, Recompute::kFull};
constexpr std::array kStates = {StateSharding::kNone,
                                StateSharding::kOptimizer,
                                StateSharding::kGradients,
                                StateSharding::kParameters};

}  // namespace

Constraint parse_constraint(Constraint::Polarity polarity,
                            const std::string& text,
                            const std::string& where) {
  const Reader reader(text, where);
  Constraint constraint;
  constraint.polarity = polarity;
  constraint.text =
      (polarity == Constraint::Polarity::kPin ? "pin " : "forbid ") + std::string(trim(text));
  std::string rest = text;
  if (const std::size_t colon = text.find(':'); colon != std::string::npos) {
    constraint.layers = trim(text.substr(0, colon));
    rest = text.substr(colon + 1);
    if (constraint.layers.empty()) {
      reader.fail("a pattern of layer names before the colon", text);
    }
  }
  const std::size_t equals = rest.find('=');
  if (equals == std::string::npos) {
    reader.fail("LAYERS: KEY=VALUE, such as \"layer.*: tensor=4\"", text);
  }
  constraint.key = trim(rest.substr(0, equals));
  constraint.subject = reader.subject(constraint.key);
  for (const std::string& part : split(rest.substr(equals + 1), '|')) {
    const std::string value(trim(part));
    switch (constraint.subject) {
      case Subject::kDegree:
      case Subject::kBoundary:
        constraint.values.push_back(reader.degree(value));
        break;
      case Subject::kRecompute:
        constraint.values.push_back(reader.enumerator(value, kRecomputes));
        break;
      case Subject::kState:
        constraint.values.push_back(reader.enumerator(value, kStates));
        break;
      case Subject::kCut:
        if (value != "before") {
          reader.fail("cut=before", value);
        }
        break;
    }
  }
  return constraint;
}

}  // namespace shardwise
