// Text of a JSON document that people will read in a diff and programs will parse.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace shardwise {

// `value` with two spaces of indentation and a newline at the end. Keys keep their order; an array
// or object that fits into 100 columns stays on one line. Numbers read back to the very same
// double; equal values give equal bytes. Bytes of a string that are no UTF-8 become U+FFFD.
// Requires finite numbers: JSON has no infinity, so one is a bug of the caller.
std::string to_json_text(const nlohmann::ordered_json& value);

}  // namespace shardwise
