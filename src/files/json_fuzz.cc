// Any bytes are an InputError or a document that can be read, written and read again.
#include "files/json.h"

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/errors.h"
#include "files/json_writer.h"

namespace {

using shardwise::InputError;
using shardwise::JsonKind;
using shardwise::JsonMember;
using shardwise::JsonValue;

// Reads a value in every way; a wrong way must be an InputError.
void poke(const JsonValue& value) {
  const auto try_to = [&](auto read) {
    try {
      read();
    } catch (const InputError&) {
    }
  };
  try_to([&] { value.as_int64(0, 10); });
  try_to([&] { value.as_int(1); });
  try_to([&] { value.as_double(-1, 1); });
  try_to([&] { value.as_bool(); });
  try_to([&] { value.as_string(); });
  try_to([&] { value.at("key"); });
  try_to([&] { value.reject_unknown_keys({"key"}); });
}

nlohmann::ordered_json copy(const JsonValue& value) {
  poke(value);
  switch (value.kind()) {
    case JsonKind::kNull:
      return nullptr;
    case JsonKind::kBool:
      return value.as_bool();
    case JsonKind::kInteger:
      return value.as_int64();
    case JsonKind::kDouble:
      return value.as_double();
    case JsonKind::kString:
      return value.as_string();
    case JsonKind::kArray: {
      auto array = nlohmann::ordered_json::array();
      for (const JsonValue& item : value.items()) {
        array.push_back(copy(item));
      }
      return array;
    }
    case JsonKind::kObject: {
      auto object = nlohmann::ordered_json::object();
      for (const JsonMember& member : value.members()) {
        object[member.key] = copy(member.value);
      }
      return object;
    }
  }
  SHARDWISE_CHECK(false, "unknown kind of JSON value");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const nlohmann::ordered_json first = copy(shardwise::parse_json(text, "fuzz.json"));
    const std::string written = shardwise::to_json_text(first);
    const nlohmann::ordered_json second = copy(shardwise::parse_json(written, "again.json"));
    SHARDWISE_CHECK(first == second, "a document changed when it was written");
    SHARDWISE_CHECK(shardwise::to_json_text(second) == written, "equal values, other text");
  } catch (const InputError&) {
  }
  return 0;
}
