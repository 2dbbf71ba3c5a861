#include "files/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/errors.h"

namespace shardwise {

namespace {

[[noreturn]] void throw_unreadable(const std::filesystem::path& path, int error_number) {
  throw InputError(path.string(),
                   fmt::format("expected a readable file, found: {}; check the path",
                               std::generic_category().message(error_number)));
}

}  // namespace

InputFile::InputFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    throw_unreadable(path_, errno);
  }
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

InputFile::~InputFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

std::int64_t InputFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    throw_unreadable(path_, errno);
  }
  if (S_ISDIR(status.st_mode)) {
    throw_unreadable(path_, EISDIR);
  }
  if (!S_ISREG(status.st_mode)) {
    throw InputError(path_.string(), "expected a regular file, found a device or pipe");
  }
  return status.st_size;
}

void InputFile::read_at(std::int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t count = ::pread(descriptor_, out.data(), out.size(), offset);
    if (count < 0 && errno != EINTR) {
      throw RuntimeFailure(fmt::format("{}: expected to read {} bytes at {}, found: {}",
                                       path_.string(),
                                       out.size(),
                                       offset,
                                       std::generic_category().message(errno)));
    }
    if (count == 0) {
      throw RuntimeFailure(
          fmt::format("{}: expected {} bytes at {}, found the end of the file; "
                      "was it changed while it was read?",
                      path_.string(),
                      out.size(),
                      offset));
    }
    if (count > 0) {
      out = out.subspan(static_cast<std::size_t>(count));
      offset += count;
    }
  }
}

std::size_t InputFile::read_some(std::span<std::byte> out) const {
  while (true) {
    const ssize_t count = ::read(descriptor_, out.data(), out.size());
    if (count >= 0) {
      return static_cast<std::size_t>(count);
    }
    if (errno != EINTR) {
      throw_unreadable(path_, errno);
    }
  }
}

}  // namespace shardwise
