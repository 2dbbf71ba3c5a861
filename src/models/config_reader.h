// Reads the keys of a config.json and remembers which, so that what nobody asked for is found.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "files/json.h"

namespace shardwise {

// Upper limits that no model reaches and that keep every product of sizes below 2^63.
inline constexpr std::int64_t kLargestSize = std::int64_t{1} << 22;
inline constexpr std::int64_t kLargestTable = std::int64_t{1} << 26;  // vocabulary, positions
inline constexpr std::int64_t kMostLayers = 10000;
inline constexpr std::int64_t kMostExperts = 4096;
inline constexpr std::int64_t kLargestImage = 1 << 14;  // pixels of a side, channels

// Every function that takes a key marks it as known. Absent and null are the same to `find` and to
// the functions with a default: transformers writes null for "as the class does".
class ConfigReader {
 public:
  explicit ConfigReader(JsonValue root) : root_(std::move(root)) {}

  const JsonValue& root() const { return root_; }
  std::optional<JsonValue> find(const std::string& key);
  // Whether the key is there, null included.
  bool contains(const std::string& key);

  // A structural key, compulsory: throws InputError that names it if it is missing.
  std::int64_t size(const std::string& key, std::int64_t largest = kLargestSize);
  std::int64_t size_or(const std::string& key, std::int64_t absent);
  double number(const std::string& key, double absent, double min, double max);
  bool flag(const std::string& key, bool absent);
  std::string text(const std::string& key, const std::string& absent);

  // Throws InputError if the key is there with any other value: `why` says what it would change.
  void require_flag(const std::string& key, bool value, const std::string& why);
  void require_absent(const std::string& key, const std::string& why);
  // A key that the family reads itself: the two functions above let it pass from then on.
  void accept(const std::string& key);
  // Adds a warning if a dropout probability is not zero.
  void dropout(const std::string& key, double absent);
  // Keys that change nothing that Shardwise computes.
  void ignore(std::initializer_list<std::string_view> keys);

  // Throws InputError at the first key that nobody asked for and that is no metadata of
  // transformers.
  void finish(const std::string& model_type) const;

  std::vector<std::string> warnings;
  std::vector<std::string> refusals;

 private:
  JsonValue root_;
  std::set<std::string> known_;
  std::set<std::string> accepted_;
};

}  // namespace shardwise
