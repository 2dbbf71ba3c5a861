#include "files/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "core/errors.h"
#include "files/faulty_file_system.h"
#include "files/memory_file_system_testing.h"
#include "files/read_file.h"
#include "files/temporary_folder.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

// A checkpoint of two files that both name the step. Written in one piece each.
void write_checkpoint(const fs::path& run, const std::string& step, FileSystem& files) {
  const fs::path staging = begin_folder(run / step, files);
  for (const char* name : {"weights", "state"}) {
    const auto file = files.open_output(staging / name, OpenMode::kTruncate);
    file->resize(2);
    file->write_at(0, bytes_of(step + " " + name));
  }
  files.make_folder(staging / "rank");
  const auto file = files.open_output(staging / "rank" / "0", OpenMode::kTruncate);
  file->write_at(0, bytes_of(step));
  publish_folder(run / step, files);
  write_file_atomically(run / "latest", step, files);
}

// Replaces the checkpoint `older` by `newer`; may be the same step again.
void replace_checkpoint(const fs::path& run,
                        const std::string& older,
                        const std::string& newer,
                        FileSystem& files) {
  write_checkpoint(run, newer, files);
  if (older != newer) {
    retire_folder(run / older, files);
  }
}

using ReadContents = std::function<std::optional<std::string>(const fs::path&)>;

// Step of the checkpoint that a resuming run finds; "" if it is not complete.
std::string found_checkpoint(const fs::path& run, const ReadContents& read) {
  const std::optional<std::string> step = read(run / "latest");
  if (!step) {
    return "";
  }
  const bool complete = read(run / *step / "weights") == *step + " weights" &&
                        read(run / *step / "state") == *step + " state" &&
                        read(run / *step / "rank" / "0") == *step;
  return complete ? *step : "";
}

std::optional<std::string> read_from_disk(const fs::path& path) {
  return fs::is_regular_file(path) ? std::optional(read_file(path)) : std::nullopt;
}

class PowerCutTest : public ::testing::TestWithParam<PowerCut> {};

// Cuts the power at each operation in turn, then resumes and finishes.
void expect_checkpoint_survives(PowerCut cut, const std::string& older, const std::string& newer) {
  bool finished = false;
  for (std::int64_t fault_at = 1; !finished; ++fault_at) {
    SCOPED_TRACE(fault_at);
    MemoryFileSystem memory;
    memory.make_folder("/run");
    memory.sync_folder("/");
    write_checkpoint("/run", older, memory);
    FaultyFileSystem faulty(&memory, fault_at, FaultKind::kCrash);
    try {
      replace_checkpoint("/run", older, newer, faulty);
      finished = true;
    } catch (const DiskCrash&) {
      memory.cut_power(cut);
    }
    const ReadContents read = [&](const fs::path& path) { return memory.contents(path); };
    const std::string found = found_checkpoint("/run", read);
    ASSERT_TRUE(found == newer || (found == older && !finished)) << found;
    replace_checkpoint("/run", older, newer, memory);
    ASSERT_EQ(found_checkpoint("/run", read), newer);
  }
}

TEST_P(PowerCutTest, LeavesTheOlderOrTheNewerCheckpoint) {
  expect_checkpoint_survives(GetParam(), "step-1", "step-2");
}

TEST_P(PowerCutTest, LeavesACheckpointWhenTheSameStepIsWrittenAgain) {
  expect_checkpoint_survives(GetParam(), "step-1", "step-1");
}

INSTANTIATE_TEST_SUITE_P(AllCuts,
                         PowerCutTest,
                         ::testing::Values(PowerCut::kLosesUnsynced,
                                           PowerCut::kKeepsNames,
                                           PowerCut::kKeepsContents,
                                           PowerCut::kKeepsEverything));

TEST_P(PowerCutTest, WhatHasReturnedIsOnDisk) {
  MemoryFileSystem memory;
  begin_folder("/run/step-1", memory);
  memory.open_output("/run/step-1.tmp/file", OpenMode::kTruncate)->write_at(0, bytes_of("x"));
  publish_folder("/run/step-1", memory);
  memory.cut_power(GetParam());
  EXPECT_EQ(memory.contents("/run/step-1/file"), "x");
  write_file_atomically("/run/latest", "step-1", memory);
  memory.cut_power(GetParam());
  EXPECT_EQ(memory.contents("/run/latest"), "step-1");
}

// The referee itself: without sync, a renamed file may be empty after a power cut.
TEST(MemoryFileSystem, UnsyncedContentsAreLostThoughTheNameIsKept) {
  MemoryFileSystem memory;
  memory.open_output("/new", OpenMode::kTruncate)->write_at(0, bytes_of("abcd"));
  memory.rename("/new", "/file");
  memory.cut_power(PowerCut::kKeepsNames);
  EXPECT_EQ(memory.contents("/file"), "ab");
}

TEST(AtomicFile, KilledProcessLeavesTheOlderOrTheNewerCheckpointOnDisk) {
  bool finished = false;
  for (std::int64_t fault_at = 1; !finished; ++fault_at) {
    SCOPED_TRACE(fault_at);
    const TemporaryFolder folder;
    const fs::path run = folder.path() / "run";
    write_checkpoint(run, "step-1", disk());
    const pid_t child = ::fork();
    if (child == 0) {
      FaultyFileSystem faulty(&disk(), fault_at, FaultKind::kKill);
      replace_checkpoint(run, "step-1", "step-2", faulty);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    finished = WEXITSTATUS(status) == 0;
    ASSERT_TRUE(finished || WEXITSTATUS(status) == kFaultExitCode);
    const std::string found = found_checkpoint(run, read_from_disk);
    ASSERT_TRUE(found == "step-2" || (found == "step-1" && !finished)) << found;
  }
}

TEST(AtomicFile, FullDiskIsReportedAndLeavesTheOldFileAlone) {
  const TemporaryFolder folder;
  const fs::path file = folder.write("plan.json", "old");
  for (const std::int64_t fault_at : {1, 2, 3, 4}) {  // open, write, sync, rename
    FaultyFileSystem faulty(&disk(), fault_at, FaultKind::kFull);
    try {
      write_file_atomically(file, "newer", faulty);
      FAIL() << "no error";
    } catch (const RuntimeFailure& failure) {
      EXPECT_THAT(failure.what(), HasSubstr("plan.json"));
      EXPECT_THAT(failure.what(), HasSubstr("No space left on device; free some space"));
    }
    EXPECT_EQ(read_file(file), "old");
    EXPECT_EQ(disk().list(folder.path()).size(), 1U) << "temporary file left";
  }
}

TEST(AtomicFile, DeviceIsWrittenInPlace) {
  write_file_atomically("/dev/null", "text");
  EXPECT_EQ(disk().kind("/dev/null"), PathKind::kOther);
  EXPECT_THROW(write_file_atomically("/dev/full", "text"), RuntimeFailure);
}

TEST(AtomicFile, LinkStaysALink) {
  const TemporaryFolder folder;
  const fs::path file = folder.write("a", "old");
  fs::create_symlink("a", folder.path() / "link");
  write_file_atomically(folder.path() / "link", "new");
  EXPECT_EQ(read_file(file), "new");
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link"));
}

TEST(AtomicFile, LinkToADeviceIsWrittenThrough) {
  const TemporaryFolder folder;
  fs::create_symlink("/dev/null", folder.path() / "link");
  write_file_atomically(folder.path() / "link", "x");
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link"));
  EXPECT_EQ(disk().kind("/dev/null"), PathKind::kOther);
}

TEST(AtomicFile, ExpectWritableLeavesNothing) {
  const TemporaryFolder folder;
  expect_writable(folder.path() / "new");
  const fs::path file = folder.write("old", "old");
  expect_writable(file);
  EXPECT_EQ(read_file(file), "old");
  EXPECT_EQ(disk().list(folder.path()).size(), 1U);
  EXPECT_THROW(expect_writable(folder.path()), InputError);
  EXPECT_THROW(expect_writable(folder.path() / "none" / "x"), InputError);
}

TEST(AtomicFile, BadPathsAreInputErrors) {
  const TemporaryFolder folder;
  fs::create_symlink("b", folder.path() / "a");
  fs::create_symlink("a", folder.path() / "b");
  EXPECT_THROW(write_file_atomically(folder.path() / "a", "x"), InputError);
  folder.write("file", "");
  EXPECT_THROW(write_file_atomically(folder.path(), "x"), InputError);
  EXPECT_THROW(write_file_atomically(folder.path() / "none" / "x", "x"), InputError);
  EXPECT_THROW(write_file_atomically(folder.path() / "file" / "x", "x"), InputError);
  EXPECT_THROW(begin_folder(folder.path() / "file" / "step-1"), InputError);
}

TEST(AtomicFile, BeginFolderMakesParentsAndClearsLeftovers) {
  const TemporaryFolder folder;
  const fs::path target = folder.path() / "a" / "b" / "step-1";
  folder.write("a/b/step-1.tmp/deep/file", "left over");
  EXPECT_EQ(begin_folder(target / ""), folder.path() / "a" / "b" / "step-1.tmp");
  EXPECT_TRUE(fs::is_empty(staging_path(target)));
  publish_folder(target / "");
  EXPECT_TRUE(fs::is_directory(target));
  retire_folder(target);
  EXPECT_TRUE(fs::is_empty(target.parent_path()));
  retire_folder(target);  // a second time: nothing to do
}

TEST(AtomicFile, RemovingAFolderDoesNotFollowLinks) {
  const TemporaryFolder folder;
  const fs::path kept = folder.write("data/kept", "x");
  folder.write("step-1/file", "x");
  fs::create_directory_symlink(kept.parent_path(), folder.path() / "step-1" / "link");
  retire_folder(folder.path() / "step-1");
  EXPECT_TRUE(fs::exists(kept));
  EXPECT_FALSE(fs::exists(folder.path() / "step-1"));
}

}  // namespace
}  // namespace shardwise
