// JSON written by people and programs, read with positions: every value knows its file, line and
// key path, so each error says where it is, what was expected and what was found:
//
//   config.json:14: key 'layers[3].n_head': expected a positive integer, found "12"; drop the
//   quotes
//
//   const JsonValue config = read_json_file("config.json");
//   const int heads = config.at("n_head").as_int(1);
//   if (const auto theta = config.find("rope_theta")) { use(theta->as_double()); }
//   for (const auto& [name, value] : config.at("levels").members()) { ... }
//
// Strict JSON (no comments, no trailing commas); a key that appears twice in one object is an
// error. Writing: json_writer.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/errors.h"
#include "core/units.h"
#include "files/read_file.h"

namespace shardwise {

enum class JsonKind { kNull, kBool, kInteger, kDouble, kString, kArray, kObject };

struct JsonDocument;
struct JsonNode;
struct JsonMember;

// One value inside a document: a cheap handle, safe to copy and to keep after its siblings and
// parents are gone. Immutable, hence safe to share between threads.
class JsonValue {
 public:
  JsonKind kind() const;
  bool is_null() const { return kind() == JsonKind::kNull; }
  bool is_bool() const { return kind() == JsonKind::kBool; }
  bool is_number() const { return kind() == JsonKind::kInteger || kind() == JsonKind::kDouble; }
  bool is_string() const { return kind() == JsonKind::kString; }
  bool is_array() const { return kind() == JsonKind::kArray; }
  bool is_object() const { return kind() == JsonKind::kObject; }

  // Each as_* throws InputError with where(), the expectation and the value found.
  //
  // A whole number within [min, max]; 4096.0 and 1e3 count as whole.
  std::int64_t as_int64(std::int64_t min = std::numeric_limits<std::int64_t>::min(),
                        std::int64_t max = std::numeric_limits<std::int64_t>::max()) const;
  int as_int(int min = std::numeric_limits<int>::min(),
             int max = std::numeric_limits<int>::max()) const;
  // Any number, always finite, within [min, max].
  double as_double(double min = std::numeric_limits<double>::lowest(),
                   double max = std::numeric_limits<double>::max()) const;
  bool as_bool() const;
  const std::string& as_string() const;

  // Elements of an array, in order; throws InputError for other kinds.
  std::vector<JsonValue> items() const;
  // Members of an object, in the order of the file; throws InputError for other kinds.
  std::vector<JsonMember> members() const;
  // Number of elements or members; throws InputError for other kinds.
  std::int64_t size() const;

  // Member of an object, O(members). If it is missing, InputError names the key, the place of the
  // object and the nearest existing key. Throws InputError for other kinds.
  JsonValue at(std::string_view key) const;
  // Member of an object, or nothing if it is missing. Throws InputError for other kinds.
  std::optional<JsonValue> find(std::string_view key) const;
  // Throws InputError at the first member of this object whose key is not in `known`.
  void reject_unknown_keys(std::initializer_list<std::string_view> known) const;

  // "config.json:14: key 'layers[3].n_head'", or "config.json:1" for the whole document. The line
  // of a member is that of its key; the file name is the one given to the parser.
  std::string where() const;
  // "layers[3].n_head"; empty for the whole document.
  std::string path() const;
  int line() const;
  const std::string& file_name() const;
  // The value in a few words, as messages show it: `"12"`, `3.5`, `an array of 4`.
  std::string describe() const;

  // Errors for the caller to throw, placed here: "<where>: <what>" and
  // "<where>: expected <expectation>, found <value>; <remedy>" (the last part if not empty).
  InputError error(const std::string& what) const;
  InputError unexpected(const std::string& expectation, const std::string& remedy = "") const;

 private:
  friend JsonValue parse_json(std::string_view text, const std::string& file_name, Bytes limit);
  JsonValue(std::shared_ptr<const JsonDocument> document, std::int32_t index)
      : document_(std::move(document)), index_(index) {}
  const JsonNode& node() const;

  // Shared, so that a value outlives the variable that held the whole document.
  std::shared_ptr<const JsonDocument> document_;
  std::int32_t index_;
};

struct JsonMember {
  std::string key;
  JsonValue value;
};

// Nesting beyond this is refused.
inline constexpr int kMaxJsonDepth = 100;

// Parses one JSON document. `file_name` only labels messages. Throws InputError with the line for
// malformed text, invalid UTF-8, duplicate keys, nesting deeper than kMaxJsonDepth, numbers beyond
// double, and text larger than `limit`. Memory is at most about 60 times the text.
JsonValue parse_json(std::string_view text,
                     const std::string& file_name,
                     Bytes limit = kMaxTextFile);

// Reads and parses a file; throws as read_file() and parse_json() do, naming the file.
JsonValue read_json_file(const std::filesystem::path& path, Bytes limit = kMaxTextFile);

// A piece of the input as messages may repeat it: control characters escaped, and cut between
// characters when it is long.
std::string shown_in_message(std::string_view text);

}  // namespace shardwise
