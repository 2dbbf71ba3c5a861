// A file open for reading at any place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace shardwise {

// Closed when destroyed. Reads from several threads do not disturb each other.
class InputFile {
 public:
  // Throws InputError that names the file and the cause if it cannot be opened.
  explicit InputFile(std::filesystem::path path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) = delete;
  ~InputFile();

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  // Present size. Throws InputError for anything but a regular file.
  std::int64_t size() const;
  // Fills `out` from `offset`. Throws RuntimeFailure if the disk fails or the file ends before.
  void read_at(std::int64_t offset, std::span<std::byte> out) const;
  // Next bytes of a file or pipe, at most out.size(); 0 at its end. Throws InputError.
  std::size_t read_some(std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace shardwise
