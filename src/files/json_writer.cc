#include "files/json_writer.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.h"

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kColumns = 100;

std::string one_value(const Json& value) {
  SHARDWISE_CHECK(!value.is_number_float() || std::isfinite(value.get<double>()),
                  "a number that JSON cannot hold");
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Appends ` "key": ` of a member; nothing for an element.
template <typename Item>
void append_key(const Item& item, bool is_member, std::string* out) {
  if (is_member) {
    *out += one_value(Json(item.key())) + ": ";
  }
}

// Appends `value` on one line and says whether it stayed within `budget` bytes; gives up early if
// not, so that trying at each level of a deep document stays cheap.
bool append_flat(const Json& value, std::size_t budget, std::string* out) {
  if (!value.is_structured()) {
    *out += one_value(value);
    return out->size() <= budget;
  }
  const bool is_object = value.is_object();
  *out += is_object ? '{' : '[';
  bool is_first = true;
  for (const auto& item : value.items()) {
    *out += is_first ? "" : ", ";
    is_first = false;
    append_key(item, is_object, out);
    if (!append_flat(item.value(), budget, out)) {
      return false;
    }
  }
  *out += is_object ? '}' : ']';
  return out->size() <= budget;
}

// Appends `value`, whose first character stands in `column` and whose line is indented by `indent`.
void append(const Json& value, std::size_t column, std::size_t indent, std::string* out) {
  // A comma may follow.
  const std::size_t room = column + 1 < kColumns ? kColumns - column - 1 : 0;
  std::string flat;
  if (append_flat(value, room, &flat) || !value.is_structured() || value.empty()) {
    *out += flat;
    return;
  }
  const bool is_object = value.is_object();
  *out += is_object ? "{" : "[";
  bool is_first = true;
  for (const auto& item : value.items()) {
    *out += is_first ? "\n" : ",\n";
    is_first = false;
    const std::size_t line = out->size();
    out->append(indent + 2, ' ');
    append_key(item, is_object, out);
    append(item.value(), out->size() - line, indent + 2, out);
  }
  *out += '\n';
  out->append(indent, ' ');
  *out += is_object ? '}' : ']';
}

}  // namespace

std::string to_json_text(const Json& value) {
  std::string text;
  append(value, 0, 0, &text);
  return text + '\n';
}

}  // namespace shardwise
