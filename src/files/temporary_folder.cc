#include "files/temporary_folder.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>

#include "core/errors.h"

namespace shardwise {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "shardwise-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw RuntimeFailure(
        fmt::format("{}: expected to make a temporary folder, found: {}; set "
                    "TMPDIR to a folder that can be written",
                    name,
                    std::generic_category().message(errno)));
  }
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;  // a destructor must not throw
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path TemporaryFolder::write(std::string_view name,
                                             std::string_view contents) const {
  std::filesystem::path file = path_ / name;
  std::filesystem::create_directories(file.parent_path());
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  stream.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  stream.close();
  if (!stream) {
    throw RuntimeFailure(file.string() + ": could not be written");
  }
  return file;
}

}  // namespace shardwise
