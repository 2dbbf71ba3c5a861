// Ranks as threads that save and load fake states.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <string>

#include "fake_state_testing.h"
#include "models/checkpoint_map.h"
#include "run_plan_testing.h"
#include "runtime/checkpoint.h"
#include "runtime/thread_communicator.h"

namespace shardwise::testing {

// The disk without waiting for it: a killed process loses nothing that it has written.
class UnsyncedDisk final : public FileSystem {
 public:
  std::unique_ptr<OutputFile> open_output(const std::filesystem::path& path,
                                          OpenMode mode) override {
    return std::make_unique<File>(disk().open_output(path, mode));
  }
  void sync_folder(const std::filesystem::path&) override {}
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    disk().rename(from, to);
  }
  void exchange(const std::filesystem::path& a, const std::filesystem::path& b) override {
    disk().exchange(a, b);
  }
  void make_folder(const std::filesystem::path& path) override { disk().make_folder(path); }
  void remove(const std::filesystem::path& path) override { disk().remove(path); }
  PathKind kind(const std::filesystem::path& path) const override { return disk().kind(path); }
  std::vector<std::filesystem::path> list(const std::filesystem::path& folder) const override {
    return disk().list(folder);
  }

 private:
  class File final : public OutputFile {
   public:
    explicit File(std::unique_ptr<OutputFile> real) : real_(std::move(real)) {}
    void write_at(std::int64_t offset, std::span<const std::byte> data) override {
      real_->write_at(offset, data);
    }
    void resize(std::int64_t size) override { real_->resize(size); }
    void sync() override {}

   private:
    std::unique_ptr<OutputFile> real_;
  };
};

// A plan of a model with what checkpoints need.
class Job {
 public:
  Job(const TestModel& model, const std::string& layout, Precision precision = Precision::kFloat32)
      : config_(model.config()), plan_(plan_of(model, layout, precision)) {
    model_.graph = &plan_.graph;
    model_.config_json = model.config_json;
    model_.written = written_checkpoint(config_, plan_.graph);
    model_.stored = [this](std::span<const std::string> names, const std::string& where) {
      return stored_checkpoint(config_, plan_.graph, names, where);
    };
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  const Graph& graph() const { return plan_.graph; }
  const CheckpointModel& model() const { return model_; }
  int ranks() const {
    int ranks = 0;
    for (const StagePlan& stage : plan_.plan.stages) {
      ranks += static_cast<int>(stage.devices.size());
    }
    return ranks;
  }
  static TrainingProgress progress(std::int64_t step) {
    return {.step = step, .tokens = step * 1000, .seed = 0xfedcba9876543210u};
  }

  // Runs `body` on every rank with an untouched state.
  void run(const std::function<void(FakeState&, CommunicationGroup&)>& body) const {
    run_as_threads(ranks(), [&](Communicator& communicator) {
      std::vector<int> all(static_cast<std::size_t>(communicator.size()));
      std::iota(all.begin(), all.end(), 0);
      const auto everyone = communicator.make_group(all);
      FakeState state(plan_.plan, plan_.graph, communicator.rank());
      body(state, *everyone);
    });
  }

  void save(const std::filesystem::path& folder,
            std::int64_t step,
            int generation,
            CheckpointOptions options = {}) const {
    UnsyncedDisk unsynced;
    options.files = options.files != nullptr ? options.files : &unsynced;
    run([&](FakeState& state, CommunicationGroup& everyone) {
      state.fill(plan_.graph, generation);
      state.set_progress(progress(step));
      save_checkpoint(folder, state, model_, everyone, options);
    });
  }

  // Loads on all ranks; how many numbers are not those of `generation`.
  std::int64_t load(const std::filesystem::path& folder, int generation) const {
    std::atomic<std::int64_t> wrong = 0;
    run([&](FakeState& state, CommunicationGroup& everyone) {
      load_checkpoint(folder, state, model_, everyone);
      wrong += state.count_wrong(plan_.graph, generation);
    });
    return wrong;
  }

 private:
  ModelConfig config_;
  TestPlan plan_;
  CheckpointModel model_;
};

}  // namespace shardwise::testing
