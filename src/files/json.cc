#include "files/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/text.h"
#include "files/json_document.h"

namespace shardwise {

std::string shown_in_message(std::string_view text) {
  constexpr std::size_t kLongest = 200;
  std::size_t length = std::min(text.size(), kLongest);
  while (length < text.size() && length > 0 &&
         (static_cast<unsigned char>(text[length]) & 0xC0U) == 0x80U) {
    --length;  // not inside a UTF-8 character
  }
  std::string result;
  for (const char byte : text.substr(0, length)) {
    const auto code = static_cast<unsigned char>(byte);
    result += code < 0x20U || code == 0x7fU ? fmt::format("\\x{:02x}", code) : std::string(1, byte);
  }
  return length < text.size() ? result + "..." : result;
}

namespace {

// "a whole number from 1 to 8", in the words that people use for the common limits.
std::string integer_expectation(std::int64_t min, std::int64_t max, std::int64_t no_max) {
  if (max < no_max) {
    return fmt::format("a whole number from {} to {}", min, max);
  }
  if (min == 1) {
    return "a positive integer";
  }
  if (min == 0) {
    return "a whole number, zero or more";
  }
  return min > 0 ? fmt::format("a whole number of at least {}", min) : "a whole number";
}

std::string double_expectation(double min, double max) {
  const bool has_min = min > std::numeric_limits<double>::lowest();
  const bool has_max = max < std::numeric_limits<double>::max();
  if (has_min && has_max) {
    return fmt::format("a number from {} to {}", min, max);
  }
  if (has_min) {
    return fmt::format("a number of at least {}", min);
  }
  return has_max ? fmt::format("a number of at most {}", max) : "a number";
}

// The whole number that a node stands for, if it does.
std::optional<std::int64_t> whole_number(const JsonNode& node) {
  if (node.kind == JsonKind::kInteger) {
    return node.integer;
  }
  constexpr double kLimit = 9223372036854775808.0;  // 2^63
  if (node.kind == JsonKind::kDouble && std::trunc(node.real) == node.real &&
      node.real >= -kLimit && node.real < kLimit) {
    return static_cast<std::int64_t>(node.real);
  }
  return std::nullopt;
}

std::string quotes_remedy(const JsonValue& value) {
  if (!value.is_string()) {
    return "";
  }
  const std::string_view text = trim(value.as_string());
  const bool numeric =
      !text.empty() && text.find_first_not_of("+-.0123456789eE") == std::string_view::npos;
  return numeric ? "drop the quotes" : "";
}

}  // namespace

const JsonNode& JsonValue::node() const { return document_->node(index_); }

JsonKind JsonValue::kind() const { return node().kind; }

std::int64_t JsonValue::as_int64(std::int64_t min, std::int64_t max) const {
  const std::optional<std::int64_t> number = whole_number(node());
  if (!number || *number < min || *number > max) {
    throw unexpected(integer_expectation(min, max, std::numeric_limits<std::int64_t>::max()),
                     quotes_remedy(*this));
  }
  return *number;
}

int JsonValue::as_int(int min, int max) const {
  const std::optional<std::int64_t> number = whole_number(node());
  if (!number || *number < min || *number > max) {
    // A number that only int cannot hold needs the true limit in its message.
    const bool is_too_large = number && *number > std::numeric_limits<int>::max();
    const std::int64_t no_max =
        is_too_large ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<int>::max();
    throw unexpected(integer_expectation(min, max, no_max), quotes_remedy(*this));
  }
  return static_cast<int>(*number);
}

double JsonValue::as_double(double min, double max) const {
  if (is_number()) {
    const double number =
        node().kind == JsonKind::kDouble ? node().real : static_cast<double>(node().integer);
    if (number >= min && number <= max) {
      return number;
    }
  }
  throw unexpected(double_expectation(min, max), quotes_remedy(*this));
}

bool JsonValue::as_bool() const {
  if (!is_bool()) {
    throw unexpected("true or false");
  }
  return node().integer != 0;
}

const std::string& JsonValue::as_string() const {
  if (!is_string()) {
    throw unexpected("a text in quotes");
  }
  return document_->string(node().text);
}

std::vector<JsonValue> JsonValue::items() const {
  if (!is_array()) {
    throw unexpected("an array");
  }
  std::vector<JsonValue> result;
  result.reserve(static_cast<std::size_t>(node().num_children));
  for (std::int32_t child = node().first_child; child != kNoJsonIndex;
       child = document_->node(child).next_sibling) {
    result.push_back(JsonValue(document_, child));
  }
  return result;
}

std::vector<JsonMember> JsonValue::members() const {
  if (!is_object()) {
    throw unexpected("an object");
  }
  std::vector<JsonMember> result;
  result.reserve(static_cast<std::size_t>(node().num_children));
  for (std::int32_t child = node().first_child; child != kNoJsonIndex;
       child = document_->node(child).next_sibling) {
    const std::string& key = document_->string(document_->node(child).key);
    result.push_back({.key = key, .value = JsonValue(document_, child)});
  }
  return result;
}

std::int64_t JsonValue::size() const {
  if (!is_array() && !is_object()) {
    throw unexpected("an array or an object");
  }
  return node().num_children;
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  if (!is_object()) {
    throw unexpected("an object");
  }
  for (std::int32_t child = node().first_child; child != kNoJsonIndex;
       child = document_->node(child).next_sibling) {
    if (document_->string(document_->node(child).key) == key) {
      return JsonValue(document_, child);
    }
  }
  return std::nullopt;
}

JsonValue JsonValue::at(std::string_view key) const {
  if (std::optional<JsonValue> value = find(key)) {
    return *std::move(value);
  }
  std::vector<std::string> keys;
  for (const JsonMember& member : members()) {
    keys.push_back(shown_in_message(member.key));
  }
  const std::string found = keys.empty() ? "an empty object" : "an object without it";
  throw error(fmt::format("expected key '{}', found {}{}", key, found, suggest(key, keys)));
}

void JsonValue::reject_unknown_keys(std::initializer_list<std::string_view> known) const {
  for (const JsonMember& member : members()) {
    if (std::find(known.begin(), known.end(), member.key) == known.end()) {
      const std::vector<std::string> names(known.begin(), known.end());
      throw member.value.error("expected a known key, found '" + shown_in_message(member.key) +
                               "'" + suggest(member.key, names));
    }
  }
}

std::string JsonValue::where() const {
  const std::string place = fmt::format("{}:{}", document_->file_name, line());
  const std::string keys = path();
  return keys.empty() ? place : fmt::format("{}: key '{}'", place, keys);
}

std::string JsonValue::path() const {
  std::vector<const JsonNode*> chain;  // innermost first, without the root
  for (const JsonNode* step = &node(); step->parent != kNoJsonIndex;
       step = &document_->node(step->parent)) {
    chain.push_back(step);
  }
  std::string result;
  for (auto step = chain.rbegin(); step != chain.rend(); ++step) {
    if ((*step)->key == kNoJsonIndex) {
      result += fmt::format("[{}]", (*step)->position);
    } else {
      result += result.empty() ? "" : ".";
      result += shown_in_message(document_->string((*step)->key));
    }
  }
  return result;
}

int JsonValue::line() const { return node().line; }

const std::string& JsonValue::file_name() const { return document_->file_name; }

std::string JsonValue::describe() const {
  const auto counted = [](std::int32_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
  };
  switch (kind()) {
    case JsonKind::kNull:
      return "null";
    case JsonKind::kBool:
      return node().integer != 0 ? "true" : "false";
    case JsonKind::kInteger:
      return fmt::format("{}", node().integer);
    case JsonKind::kDouble:
      return fmt::format("{}", node().real);
    case JsonKind::kString:
      return '"' + shown_in_message(as_string()) + '"';
    case JsonKind::kArray:
      return "an array of " + counted(node().num_children, "element");
    case JsonKind::kObject:
      return "an object with " + counted(node().num_children, "key");
  }
  SHARDWISE_CHECK(false, "unknown kind of JSON value");
}

InputError JsonValue::error(const std::string& what) const { return {where(), what}; }

InputError JsonValue::unexpected(const std::string& expectation, const std::string& remedy) const {
  return error(fmt::format(
      "expected {}, found {}{}{}", expectation, describe(), remedy.empty() ? "" : "; ", remedy));
}

JsonValue read_json_file(const std::filesystem::path& path, Bytes limit) {
  return parse_json(read_file(path, limit), path.string(), limit);
}

}  // namespace shardwise
