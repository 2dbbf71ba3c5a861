#include "files/read_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "core/errors.h"

namespace shardwise {

namespace {

// Closes the descriptor when it goes out of scope.
struct OpenFile {
  explicit OpenFile(const std::filesystem::path& path)
      : descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (descriptor >= 0) {
      ::close(descriptor);
    }
  }
  int descriptor;
};

}  // namespace

void throw_unreadable(const std::filesystem::path& path, int error_number) {
  throw InputError(path.string(),
                   fmt::format("expected a readable file, found: {}; check the path",
                               std::generic_category().message(error_number)));
}

std::string read_file(const std::filesystem::path& path, Bytes limit) {
  const OpenFile file(path);
  if (file.descriptor < 0) {
    throw_unreadable(path, errno);
  }
  std::string text;
  std::vector<char> chunk(std::size_t{1} << 16);
  while (true) {
    const ssize_t count = ::read(file.descriptor, chunk.data(), chunk.size());
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw_unreadable(path, errno);
    }
    if (count == 0) {
      return text;
    }
    text.append(chunk.data(), static_cast<std::size_t>(count));
    if (static_cast<std::int64_t>(text.size()) > limit.count) {
      throw InputError(path.string(),
                       fmt::format("expected at most {}, found a larger file; is it the right one?",
                                   format_bytes(limit)));
    }
  }
}

}  // namespace shardwise
