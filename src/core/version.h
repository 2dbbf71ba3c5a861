// The version of Shardwise that plan files and profiles record.
#pragma once

#include <string_view>

namespace shardwise {

// Semantic version, such as "0.1.0"; set by the project() line of CMakeLists.txt.
std::string_view version();

}  // namespace shardwise
