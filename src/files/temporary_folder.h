// A folder that exists as long as the object: for tests, and for fuzz targets of file readers.
#pragma once

#include <filesystem>
#include <string_view>

namespace shardwise {

// A new empty folder below the system's temporary folder, removed with its contents at the end.
class TemporaryFolder {
 public:
  // Throws RuntimeFailure if no folder can be made.
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  const std::filesystem::path& path() const { return path_; }
  // Writes a file of this name, replacing one that exists; folders in `name` are made. Returns its
  // path.
  std::filesystem::path write(std::string_view name, std::string_view contents) const;

 private:
  std::filesystem::path path_;
};

}  // namespace shardwise
