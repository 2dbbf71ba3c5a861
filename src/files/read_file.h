// Reads a whole small file (configuration, plan, cluster) into memory.
#pragma once

#include <filesystem>
#include <string>

#include "core/units.h"

namespace shardwise {

// Larger than any plan or profile; a bigger file is surely the wrong one.
inline constexpr Bytes kMaxTextFile{std::int64_t{128} << 20};

// The bytes of the file, as they are. Pipes and /dev/stdin work.
// Throws InputError that names the file and the cause if it is missing, unreadable, a folder, or
// larger than `limit`.
std::string read_file(const std::filesystem::path& path, Bytes limit = kMaxTextFile);

}  // namespace shardwise
