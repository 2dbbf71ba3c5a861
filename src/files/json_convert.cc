#include "files/json_convert.h"

#include <nlohmann/json.hpp>

namespace shardwise {

nlohmann::ordered_json to_ordered_json(const JsonValue& value) {
  using Json = nlohmann::ordered_json;
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
      Json array = Json::array();
      for (const JsonValue& item : value.items()) {
        array.push_back(to_ordered_json(item));
      }
      return array;
    }
    case JsonKind::kObject: {
      Json object = Json::object();
      for (const JsonMember& member : value.members()) {
        object[member.key] = to_ordered_json(member.value);
      }
      return object;
    }
  }
  SHARDWISE_CHECK(false, "unknown kind of JSON value");
}

}  // namespace shardwise
