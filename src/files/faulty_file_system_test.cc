#include "files/faulty_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "core/errors.h"
#include "files/read_file.h"
#include "files/temporary_folder.h"

namespace shardwise {
namespace {

// Sets SHARDWISE_FAULT_AT for one test.
class Variable {
 public:
  explicit Variable(const char* value) { ::setenv("SHARDWISE_FAULT_AT", value, 1); }
  ~Variable() { ::unsetenv("SHARDWISE_FAULT_AT"); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
};

TEST(FaultyFileSystem, BrokenWriteLeavesHalf) {
  const TemporaryFolder folder;
  FaultyFileSystem faulty(&disk(), 2, FaultKind::kFull);
  const auto file = faulty.open_output(folder.path() / "file", OpenMode::kTruncate);
  EXPECT_THROW(file->write_at(0, bytes_of("abcd")), RuntimeFailure);
  EXPECT_EQ(read_file(folder.path() / "file"), "ab");
  EXPECT_NO_THROW(file->write_at(0, bytes_of("abcd")));  // only the second operation breaks
  EXPECT_EQ(faulty.num_operations(), 3);
}

TEST(FaultyFileSystem, CrashBreaksEverythingAfterIt) {
  const TemporaryFolder folder;
  FaultyFileSystem faulty(&disk(), 1, FaultKind::kCrash);
  EXPECT_THROW(faulty.make_folder(folder.path() / "a"), DiskCrash);
  EXPECT_THROW(faulty.make_folder(folder.path() / "a"), DiskCrash);
  EXPECT_EQ(disk().kind(folder.path() / "a"), PathKind::kMissing);
}

TEST(FaultyFileSystem, EnvironmentChoosesTheOperationAndTheFault) {
  EXPECT_EQ(faulty_file_system_from_environment(&disk()), nullptr);
  const TemporaryFolder folder;
  const Variable variable("2:full");
  const auto faulty = faulty_file_system_from_environment(&disk());
  faulty->make_folder(folder.path() / "a");
  EXPECT_THROW(faulty->make_folder(folder.path() / "b"), RuntimeFailure);
}

TEST(FaultyFileSystemDeathTest, EnvironmentKillsTheProcess) {
  const Variable variable("1");
  EXPECT_EXIT(faulty_file_system_from_environment(&disk())->remove("/none"),
              ::testing::ExitedWithCode(kFaultExitCode),
              "");
}

TEST(FaultyFileSystem, OtherValuesOfTheVariableAreInputErrors) {
  for (const char* value : {"", "0", "-1", "x", "3:", "3:empty"}) {
    const Variable variable(value);
    EXPECT_THROW(faulty_file_system_from_environment(&disk()), InputError) << value;
  }
}

}  // namespace
}  // namespace shardwise
