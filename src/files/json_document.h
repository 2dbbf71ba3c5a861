// The tree behind JsonValue; internal to json.cc (reading) and json_parser.cc (building).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "files/json.h"

namespace shardwise {

inline constexpr std::int32_t kNoJsonIndex = -1;

// One value. Nodes lie in one vector in the order of the text and refer to each other by index, so
// a million numbers are one allocation, not a million.
struct JsonNode {
  JsonKind kind = JsonKind::kNull;
  std::int32_t line = 0;
  std::int32_t parent = kNoJsonIndex;
  std::int32_t next_sibling = kNoJsonIndex;
  std::int32_t first_child = kNoJsonIndex;
  std::int32_t num_children = 0;
  std::int32_t position = 0;         // among the parent's children
  std::int32_t key = kNoJsonIndex;   // in JsonDocument::strings, for members of an object
  std::int32_t text = kNoJsonIndex;  // in JsonDocument::strings, for strings
  union {
    std::int64_t integer = 0;  // kInteger, kBool
    double real;               // kDouble
  };
};

struct JsonDocument {
  std::string file_name;
  std::vector<JsonNode> nodes;      // nodes[0] is the whole document
  std::deque<std::string> strings;  // a deque, so that views into the strings stay valid

  const JsonNode& node(std::int32_t index) const { return nodes[static_cast<std::size_t>(index)]; }
  const std::string& string(std::int32_t index) const {
    return strings[static_cast<std::size_t>(index)];
  }
};

}  // namespace shardwise
