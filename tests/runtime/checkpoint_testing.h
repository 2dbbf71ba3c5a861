// Ranks as threads that save and load fake states.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <numeric>
#include <string>

#include "fake_state_testing.h"
#include "models/checkpoint_map.h"
#include "run_plan_testing.h"
#include "runtime/checkpoint.h"
#include "runtime/thread_communicator.h"

namespace shardwise::testing {

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
            const CheckpointOptions& options = {}) const {
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
