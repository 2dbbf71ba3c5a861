// From a parsed document back to one that can be written: plans embed model configurations.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "files/json.h"

namespace shardwise {

// The same value: keys in the order of the file, whole numbers as integers, doubles bit by bit.
nlohmann::ordered_json to_ordered_json(const JsonValue& value);

}  // namespace shardwise
