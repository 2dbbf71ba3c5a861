// A disk that breaks, or a process that dies, at each operation of a checkpoint in turn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

#include "checkpoint_testing.h"
#include "core/errors.h"
#include "files/faulty_file_system.h"
#include "files/temporary_folder.h"

namespace shardwise::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Two layers on two stages: few operations, all kinds of them, on both ranks.
TestModel small_model() {
  TestModel model = tiny_gpt2_model();
  model.set_layers(2);
  return model;
}

// A run that has checkpoints of steps 5 and 10 and is about to write that of 20, which then
// removes that of 5. Numbers of step N are of generation N.
class CheckpointFaults : public ::testing::Test {
 protected:
  CheckpointFaults() {
    job_.save(before_.path(), 5, 5);
    job_.save(before_.path(), 10, 10);
  }

  // A copy of the run.
  fs::path fresh_run() const {
    fs::path run = work_.path() / "run";
    fs::remove_all(run);
    fs::copy(before_.path(), run, fs::copy_options::recursive);
    return run;
  }

  void save(const fs::path& run, FileSystem& files) const {
    CheckpointOptions options;
    options.files = &files;
    job_.save(run, 20, 20, options);
  }

  // The step of the latest checkpoint, after every number in it has been compared.
  int complete_step(const fs::path& run) const {
    const auto latest = find_latest(run);
    if (!latest) {
      ADD_FAILURE() << "no checkpoint";
      return 0;
    }
    const int step = std::stoi(latest->filename().string().substr(5));
    EXPECT_EQ(job_.load(run, step), 0) << *latest;
    return step;
  }

  std::int64_t count_operations() {
    FaultyFileSystem counting(&disk_, 0, FaultKind::kFull);
    save(fresh_run(), counting);
    return counting.num_operations();
  }

  UnsyncedDisk disk_;
  TemporaryFolder before_;
  TemporaryFolder work_;
  Job job_{small_model(), "pp=2"};
};

TEST_F(CheckpointFaults, AKillAtAnyOperationLeavesOneCompleteCheckpoint) {
  const std::int64_t operations = count_operations();
  int last_step = 10;
  for (std::int64_t k = 1; k <= operations; ++k) {
    SCOPED_TRACE(k);
    const fs::path run = fresh_run();
    const pid_t child = ::fork();
    if (child == 0) {
      FaultyFileSystem files(&disk_, k, FaultKind::kKill);
      save(run, files);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), kFaultExitCode);
    const int step = complete_step(run);
    EXPECT_TRUE(step == 10 || step == 20) << step;
    EXPECT_GE(step, last_step) << "a later kill leaves no older checkpoint";
    last_step = step;
    if (k % 5 != 0 && k < operations) {
      continue;
    }
    // The next attempt gets by with whatever has been left.
    job_.save(run, 30, 30);
    EXPECT_EQ(complete_step(run), 30);
    for (const fs::path& entry : disk().list(run)) {
      EXPECT_NE(entry.extension(), ".tmp") << entry;
    }
  }
  EXPECT_EQ(last_step, 20);
}

TEST_F(CheckpointFaults, AFullDiskIsAnErrorOnAllRanksAndLeavesTheOldCheckpoint) {
  const std::int64_t operations = count_operations();
  int first_step = 20;
  for (std::int64_t k = 1; k <= operations; ++k) {
    SCOPED_TRACE(k);
    const fs::path run = fresh_run();
    FaultyFileSystem files(&disk_, k, FaultKind::kFull);
    std::mutex mutex;
    std::vector<std::string> messages;
    job_.run([&](FakeState& state, CommunicationGroup& everyone) {
      state.fill(job_.graph(), 20);
      state.set_progress(Job::progress(20));
      CheckpointOptions options;
      options.files = &files;
      try {
        save_checkpoint(run, state, job_.model(), everyone, options);
      } catch (const RuntimeFailure& failure) {
        const std::scoped_lock lock(mutex);
        messages.emplace_back(failure.what());
      }
    });
    ASSERT_EQ(messages.size(), 2u) << "all ranks agree that it failed";
    EXPECT_THAT(messages[0] + messages[1], HasSubstr("No space left on device"));
    EXPECT_THAT(messages[0] + messages[1], HasSubstr("its own message says why"));
    EXPECT_FALSE(fs::exists(run / "step-20.tmp"));
    const int step = complete_step(run);
    EXPECT_TRUE(step == 10 || step == 20) << step;
    first_step = std::min(first_step, step);
  }
  EXPECT_EQ(first_step, 10);
}

}  // namespace
}  // namespace shardwise::testing
