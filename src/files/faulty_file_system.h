// A file system that breaks at a chosen operation. A test hook, never used in a normal run.
//
// Operations that change something are counted from 1 in the order in which they are asked for:
// open, write, resize, sync of a file or folder, rename, exchange, make_folder, remove. A write
// that breaks has first written half of its bytes; any other operation breaks before it does
// anything.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "files/file_system.h"

namespace shardwise {

enum class FaultKind {
  kKill,   // ends the process at once, as SIGKILL would: _exit(kFaultExitCode)
  kFull,   // this operation alone fails with RuntimeFailure "No space left on device"
  kCrash,  // this and every later operation throw DiskCrash: the machine is gone
};

inline constexpr int kFaultExitCode = 137;  // 128 + SIGKILL, as a shell reports it

// Not derived from the project's errors, so that no handler mistakes it for one.
struct DiskCrash {};

class FaultyFileSystem : public FileSystem {
 public:
  // Passes everything to `inner`, which must outlive it, and breaks at operation `fault_at`
  // (never, if it is not positive).
  FaultyFileSystem(FileSystem* inner, std::int64_t fault_at, FaultKind kind)
      : inner_(inner), fault_at_(fault_at), kind_(kind) {}

  // Operations counted so far.
  std::int64_t num_operations() const { return count_; }

  std::unique_ptr<OutputFile> open_output(const std::filesystem::path& path,
                                          OpenMode mode) override;
  void sync_folder(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void exchange(const std::filesystem::path& a, const std::filesystem::path& b) override;
  void make_folder(const std::filesystem::path& path) override;
  void remove(const std::filesystem::path& path) override;
  PathKind kind(const std::filesystem::path& path) const override;
  std::vector<std::filesystem::path> list(const std::filesystem::path& folder) const override;

 private:
  class File;
  // Counts one operation; true if it is the one to break (or, after a crash, any).
  bool is_broken();
  [[noreturn]] void break_at(const std::filesystem::path& path) const;
  void step(const std::filesystem::path& path);

  FileSystem* inner_;
  std::int64_t fault_at_;
  FaultKind kind_;
  std::atomic<std::int64_t> count_ = 0;
};

// SHARDWISE_FAULT_AT=k kills the process at its k-th operation, SHARDWISE_FAULT_AT=k:full lets that
// operation fail for lack of space; null if the variable is not set. Throws InputError for other
// values.
std::unique_ptr<FileSystem> faulty_file_system_from_environment(FileSystem* inner);

}  // namespace shardwise
