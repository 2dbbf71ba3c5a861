// Everything that changes files passes here, so that tests can make it fail at any operation.
//
// Errors: InputError when the path is the cause (missing folder, no permission, read-only disk),
// RuntimeFailure when the machine is (no space, broken disk); both name path, operation and cause.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace shardwise {

// A file open for writing; closed when destroyed.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  // Writes all of `data` at `offset`; writers at disjoint ranges do not disturb each other.
  virtual void write_at(std::int64_t offset, std::span<const std::byte> data) = 0;
  // Sets the size; new bytes are zero.
  virtual void resize(std::int64_t size) = 0;
  // Returns when contents and size would survive a power cut.
  virtual void sync() = 0;
};

enum class OpenMode {
  kTruncate,  // makes the file or empties it
  kExisting,  // the file must exist and keeps its contents
};

enum class PathKind { kMissing, kFile, kFolder, kLink, kOther };

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual std::unique_ptr<OutputFile> open_output(const std::filesystem::path& path,
                                                  OpenMode mode) = 0;
  // Returns when the folder's list of names would survive a power cut.
  virtual void sync_folder(const std::filesystem::path& path) = 0;
  // Atomic; replaces a file or an empty folder called `to`.
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  // Swaps two names atomically. Throws InputError on file systems that cannot.
  virtual void exchange(const std::filesystem::path& a, const std::filesystem::path& b) = 0;
  // Makes one folder; its parent must exist.
  virtual void make_folder(const std::filesystem::path& path) = 0;
  // Removes a file or an empty folder; a missing one is no error.
  virtual void remove(const std::filesystem::path& path) = 0;

  // What `path` is; a symbolic link is a link, whatever it names.
  virtual PathKind kind(const std::filesystem::path& path) const = 0;
  // Paths of the entries of a folder, sorted by name.
  virtual std::vector<std::filesystem::path> list(const std::filesystem::path& folder) const = 0;
};

// The real disk. With SHARDWISE_FAULT_AT set it is a FaultyFileSystem in front of it, which is a
// test hook: see faulty_file_system.h. Safe to call from several threads.
FileSystem& disk();

// Throws the error for a failed operation: "<path>: expected to <operation>, found: <errno text>;
// <remedy>".
[[noreturn]] void throw_file_error(const std::filesystem::path& path,
                                   std::string_view operation,
                                   int error_number);

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace shardwise
