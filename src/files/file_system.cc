#include "files/file_system.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include "core/errors.h"
#include "files/faulty_file_system.h"

namespace shardwise {

void throw_file_error(const std::filesystem::path& path,
                      std::string_view operation,
                      int error_number) {
  const auto text = [&](std::string_view remedy) {
    return fmt::format("expected to {}, found: {}; {}",
                       operation,
                       std::generic_category().message(error_number),
                       remedy);
  };
  switch (error_number) {
    case EACCES:
    case EPERM:
    case EROFS:
      throw InputError(path.string(), text("choose a place that can be written"));
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EEXIST:
    case ENOTEMPTY:
    case ENAMETOOLONG:
    case ELOOP:
      throw InputError(path.string(), text("check the path"));
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      throw RuntimeFailure(path.string() + ": " + text("free some space, then start again"));
    default:
      throw RuntimeFailure(path.string() + ": " + text("check the disk"));
  }
}

namespace {

class DiskFile : public OutputFile {
 public:
  DiskFile(std::filesystem::path path, int descriptor)
      : path_(std::move(path)), descriptor_(descriptor) {}
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;
  // An error here cannot lose data that sync() has confirmed.
  ~DiskFile() override { ::close(descriptor_); }

  void write_at(std::int64_t offset, std::span<const std::byte> data) override {
    while (!data.empty()) {
      const ssize_t count = ::pwrite(descriptor_, data.data(), data.size(), offset);
      if (count < 0 && errno == ESPIPE) {
        write_to_pipe(data);
        return;
      }
      if (count < 0 && errno != EINTR) {
        throw_file_error(path_, fmt::format("write {} bytes", data.size()), errno);
      }
      if (count > 0) {
        data = data.subspan(static_cast<std::size_t>(count));
        offset += count;
      }
    }
  }

  void resize(std::int64_t size) override {
    if (::ftruncate(descriptor_, size) != 0) {
      throw_file_error(path_, fmt::format("make it {} bytes long", size), errno);
    }
  }

  void sync() override {
    // Pipes and terminals have nothing to sync.
    if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) {
      throw_file_error(path_, "sync to disk", errno);
    }
  }

 private:
  void write_to_pipe(std::span<const std::byte> data) {
    while (!data.empty()) {
      const ssize_t count = ::write(descriptor_, data.data(), data.size());
      if (count < 0 && errno != EINTR) {
        throw_file_error(path_, fmt::format("write {} bytes", data.size()), errno);
      }
      data = data.subspan(static_cast<std::size_t>(std::max(count, ssize_t{0})));
    }
  }

  std::filesystem::path path_;
  int descriptor_;
};

class DiskFileSystem : public FileSystem {
 public:
  std::unique_ptr<OutputFile> open_output(const std::filesystem::path& path,
                                          OpenMode mode) override {
    const int flags = O_WRONLY | O_CLOEXEC | (mode == OpenMode::kTruncate ? O_CREAT | O_TRUNC : 0);
    constexpr mode_t kPermissions = 0666;  // the user's umask takes its part away
    const int descriptor = ::open(path.c_str(), flags, kPermissions);
    if (descriptor < 0) {
      throw_file_error(path, "open the file for writing", errno);
    }
    return std::make_unique<DiskFile>(path, descriptor);
  }

  void sync_folder(const std::filesystem::path& path) override {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
      throw_file_error(path, "open the folder", errno);
    }
    const int result = ::fsync(descriptor);
    const int error = errno;
    ::close(descriptor);
    if (result != 0 && error != EINVAL) {  // EINVAL: a file system that needs no sync of folders
      throw_file_error(path, "sync the folder to disk", error);
    }
  }

  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      throw_file_error(to, fmt::format("rename {} to it", from.filename().string()), errno);
    }
  }

  void exchange(const std::filesystem::path& a, const std::filesystem::path& b) override {
    if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) {
      return;
    }
    const int error = errno;
    if (error == EINVAL || error == ENOSYS || error == ENOTSUP) {
      throw InputError(b.string(),
                       "expected a new name, found one that exists on a file system that cannot "
                       "replace a folder at once; move it away or choose another place");
    }
    throw_file_error(b, fmt::format("swap it with {}", a.filename().string()), error);
  }

  void make_folder(const std::filesystem::path& path) override {
    constexpr mode_t kPermissions = 0777;
    if (::mkdir(path.c_str(), kPermissions) != 0) {
      throw_file_error(path, "make the folder", errno);
    }
  }

  void remove(const std::filesystem::path& path) override {
    if (::remove(path.c_str()) != 0 && errno != ENOENT) {
      throw_file_error(path, "remove it", errno);
    }
  }

  PathKind kind(const std::filesystem::path& path) const override {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::symlink_status(path, error);
    switch (status.type()) {
      case std::filesystem::file_type::not_found:
        return PathKind::kMissing;
      case std::filesystem::file_type::none:
        throw_file_error(path, "look at it", error.value());
      case std::filesystem::file_type::regular:
        return PathKind::kFile;
      case std::filesystem::file_type::directory:
        return PathKind::kFolder;
      case std::filesystem::file_type::symlink:
        return PathKind::kLink;
      default:
        return PathKind::kOther;
    }
  }

  std::vector<std::filesystem::path> list(const std::filesystem::path& folder) const override {
    std::error_code error;
    std::vector<std::filesystem::path> entries;
    std::filesystem::directory_iterator entry(folder, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      entries.push_back(entry->path());
    }
    if (error) {
      throw_file_error(folder, "list the folder", error.value());
    }
    std::sort(entries.begin(), entries.end());
    return entries;
  }
};

}  // namespace

FileSystem& disk() {
  static DiskFileSystem real;
  static const std::unique_ptr<FileSystem> faulty = faulty_file_system_from_environment(&real);
  return faulty ? *faulty : real;
}

}  // namespace shardwise
