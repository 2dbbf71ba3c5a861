// Files and folders that appear whole or not at all, whatever kills the process or the machine.
//
// A checkpoint is a folder. Its life:
//
//   const auto staging = begin_folder("run/step-200");      // makes run/step-200.tmp
//   ... several processes write files into `staging` ...
//   publish_folder("run/step-200");                         // syncs everything, renames
//   write_file_atomically("run/latest", "step-200\n");      // moves the pointer
//   retire_folder("run/step-100");                          // removes an old one
//
// After a kill at any operation between, `run/latest` names a folder that is complete: the older
// or the newer one. Names that end in ".tmp" are unfinished or half removed, and may be deleted.
#pragma once

#include <filesystem>
#include <string_view>

#include "files/file_system.h"

namespace shardwise {

// Writes `contents` to a temporary file beside `path`, syncs it, renames it to `path` and syncs the
// folder: a reader sees the old file or the new one, never a part. The folder must exist. A
// symbolic link stays and the file that it names is replaced; a device or pipe is written directly.
// On an error the old file is untouched and the temporary one removed.
// Two processes that write the same path do not mix: one of them wins.
void write_file_atomically(const std::filesystem::path& path,
                           std::string_view contents,
                           FileSystem& files = disk());

// Throws what write_file_atomically(path, ...) would throw for its name and folder; call it before
// long work whose result goes there. Leaves nothing behind.
void expect_writable(const std::filesystem::path& path, FileSystem& files = disk());

// "<folder>.tmp", where the files of a folder are collected before it is published.
std::filesystem::path staging_path(const std::filesystem::path& folder);

// Makes the empty staging folder of `folder`, and missing parents; what an earlier, interrupted
// attempt has left there is removed. Returns staging_path(folder). One process calls it.
std::filesystem::path begin_folder(const std::filesystem::path& folder, FileSystem& files = disk());

// Syncs every file and folder below the staging folder, renames it to `folder` and syncs the
// parent. A folder of that name is replaced, atomically. One process calls it, after all writers
// are done; files written by another machine must also be synced there.
void publish_folder(const std::filesystem::path& folder, FileSystem& files = disk());

// Removes a published folder; what a kill in between leaves has the staging name. A missing folder
// is no error.
void retire_folder(const std::filesystem::path& folder, FileSystem& files = disk());

}  // namespace shardwise
