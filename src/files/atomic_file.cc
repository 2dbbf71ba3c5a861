#include "files/atomic_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <system_error>

#include "core/errors.h"

namespace shardwise {

namespace {

namespace fs = std::filesystem;

// Folder that holds `path`; "." for a bare name.
fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// `path` without a slash at the end, which would hide its last name.
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void write_whole(const fs::path& path, std::string_view contents, FileSystem& files) {
  const std::unique_ptr<OutputFile> file = files.open_output(path, OpenMode::kTruncate);
  file->write_at(0, bytes_of(contents));
  file->sync();
}

void remove_tree(const fs::path& path, FileSystem& files) {
  if (files.kind(path) == PathKind::kFolder) {
    for (const fs::path& entry : files.list(path)) {
      remove_tree(entry, files);
    }
  }
  files.remove(path);
}

// Files before the folder that lists them: a name on disk then always has its contents.
void sync_tree(const fs::path& path, FileSystem& files) {
  const PathKind kind = files.kind(path);
  if (kind == PathKind::kFile) {
    files.open_output(path, OpenMode::kExisting)->sync();
  }
  if (kind != PathKind::kFolder) {
    return;
  }
  for (const fs::path& entry : files.list(path)) {
    sync_tree(entry, files);
  }
  files.sync_folder(path);
}

void make_folders(const fs::path& path, FileSystem& files) {
  if (path.empty() || files.kind(path) != PathKind::kMissing) {
    return;
  }
  make_folders(path.parent_path(), files);
  files.make_folder(path);
  files.sync_folder(parent_of(path));
}

}  // namespace

void write_file_atomically(const fs::path& path, std::string_view contents, FileSystem& files) {
  const bool is_link = files.kind(path) == PathKind::kLink;
  std::error_code error;
  if (is_link) {
    const fs::file_status aim = fs::status(path, error);
    if (fs::exists(aim) && !fs::is_regular_file(aim) && !fs::is_directory(aim)) {
      write_whole(path, contents, files);  // such as /dev/stdout: its end has no name of its own
      return;
    }
  }
  const fs::path target = is_link ? fs::weakly_canonical(path, error) : path;
  if (error && error != std::errc::no_such_file_or_directory) {
    throw_file_error(path, "follow the link", error.value());
  }
  const PathKind kind = files.kind(target);
  if (kind == PathKind::kOther) {
    write_whole(target, contents, files);
    return;
  }
  if (kind == PathKind::kFolder) {
    throw InputError(path.string(), "expected the name of a file, found a folder; add a name");
  }
  fs::path temporary = target;
  temporary += fmt::format(".{}.tmp", ::getpid());
  try {
    write_whole(temporary, contents, files);
    files.rename(temporary, target);
  } catch (const std::exception&) {
    try {
      files.remove(temporary);
    } catch (const std::exception&) {
      // The first error is the one to report.
    }
    throw;
  }
  files.sync_folder(parent_of(target));
}

void expect_writable(const fs::path& path, FileSystem& files) {
  const PathKind kind = files.kind(path);
  if (kind == PathKind::kFolder) {
    throw InputError(path.string(), "expected the name of a file, found a folder; add a name");
  }
  if (kind != PathKind::kMissing && kind != PathKind::kFile) {
    return;  // where a link or a device leads is seen when it is written
  }
  fs::path temporary = path;
  temporary += fmt::format(".{}.tmp", ::getpid());
  files.open_output(temporary, OpenMode::kTruncate);
  files.remove(temporary);
}

fs::path staging_path(const fs::path& folder) {
  fs::path staging = without_slash(folder);
  staging += ".tmp";
  return staging;
}

fs::path begin_folder(const fs::path& folder, FileSystem& files) {
  fs::path staging = staging_path(folder);
  remove_tree(staging, files);
  make_folders(staging.parent_path(), files);
  files.make_folder(staging);
  return staging;
}

void publish_folder(const fs::path& folder, FileSystem& files) {
  const fs::path target = without_slash(folder);
  const fs::path staging = staging_path(folder);
  sync_tree(staging, files);
  if (files.kind(target) == PathKind::kMissing) {
    files.rename(staging, target);
    files.sync_folder(parent_of(target));
    return;
  }
  files.exchange(staging, target);
  files.sync_folder(parent_of(target));
  remove_tree(staging, files);  // the replaced folder
}

void retire_folder(const fs::path& folder, FileSystem& files) {
  const fs::path target = without_slash(folder);
  const fs::path staging = staging_path(folder);
  if (files.kind(target) == PathKind::kMissing) {
    return;
  }
  remove_tree(staging, files);
  files.rename(target, staging);
  files.sync_folder(parent_of(target));
  remove_tree(staging, files);
}

}  // namespace shardwise
