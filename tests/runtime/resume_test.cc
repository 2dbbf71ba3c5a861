// Training goes on from a checkpoint under another plan as if it had not stopped; under the same
// plan with the same bits.
#include <gtest/gtest.h>

#include "files/temporary_folder.h"
#include "models/checkpoint_map.h"
#include "run_plan_testing.h"
#include "runtime/checkpoint.h"
#include "runtime/executor_state.h"

namespace shardwise::testing {
namespace {

constexpr int kSavedStep = 3;
constexpr int kLastStep = 6;

CheckpointModel checkpoint_model(const TestModel& model, const Graph& graph) {
  const ModelConfig config = model.config();
  CheckpointModel made;
  made.graph = &graph;
  made.config_json = config.json;
  made.written = written_checkpoint(config, graph);
  made.stored = [config, &graph](std::span<const std::string> names, const std::string& where) {
    return stored_checkpoint(config, graph, names, where);
  };
  return made;
}

struct Resumption {
  std::string name;
  TestModel model;
  std::string first;
  std::string second;
  Precision precision = Precision::kFloat32;
};

void PrintTo(const Resumption& resumption, std::ostream* out) { *out << resumption.name; }

// Losses of steps kSavedStep + 1 .. kLastStep after a stop, and the parameters in the end.
TrainedRun stop_and_go_on(const Resumption& what) {
  const TemporaryFolder folder;
  const TestPlan first = plan_of(what.model, what.first, what.precision);
  const TestPlan second = plan_of(what.model, what.second, what.precision);
  const CheckpointModel saved = checkpoint_model(what.model, first.graph);
  const CheckpointModel loaded = checkpoint_model(what.model, second.graph);
  RunHooks saving;
  saving.after = [&](Executor& executor, const Program& program, Communicator&) {
    ExecutorState state(program, executor.parameters());
    state.set_progress({kSavedStep, 0, 5});
    save_checkpoint(folder.path(), state, saved, executor.groups().world());
  };
  run_plan(first.plan, first.graph, kSavedStep, saving);
  RunHooks loading;
  loading.first_step = kSavedStep + 1;
  loading.before = [&](Executor& executor, const Program& program, Communicator&) {
    ExecutorState state(program, executor.parameters());
    load_checkpoint(folder.path(), state, loaded, executor.groups().world());
    EXPECT_EQ(state.progress().step, kSavedStep);
  };
  return run_plan(second.plan, second.graph, kLastStep, loading);
}

TrainedRun run_through(const Resumption& what) {
  const TestPlan plan = plan_of(what.model, what.first, what.precision);
  return run_plan(plan.plan, plan.graph, kLastStep);
}

class Resume : public ::testing::TestWithParam<Resumption> {};

TEST_P(Resume, GoesOnUnderAnotherPlan) {
  const TrainedRun whole = run_through(GetParam());
  const TrainedRun resumed = stop_and_go_on(GetParam());
  for (std::size_t step = kSavedStep; step < kLastStep; ++step) {
    EXPECT_NEAR(resumed.losses[step - kSavedStep], whole.losses[step], 1e-4 * whole.losses[step]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Pairs,
    Resume,
    ::testing::Values(
        Resumption{"one_to_four", tiny_gpt2_model(), "dp=1 micro=3", "dp=2 tp=2"},
        Resumption{"data_to_pipeline", tiny_gpt2_model(), "dp=2", "pp=2"},
        Resumption{"tied_pipeline_to_tensor", tiny_qwen3_model(), "pp=2", "tp=2 sp=1"},
        Resumption{"tensor_2_to_4", tiny_llama_model(), "tp=2", "tp=4"},
        Resumption{"zero3_to_none", tiny_llama_model(), "dp=4 zero=3", "dp=2"},
        Resumption{"none_to_zero3", tiny_gpt2_model(), "dp=2", "dp=4 zero=3"},
        Resumption{"zero1_to_zero2", tiny_qwen3_model(), "dp=2 zero=1", "dp=3 zero=2"},
        Resumption{
            "context_to_interleaved", tiny_llama_model(), "cp=2", "pp=2 vp=2 schedule=interleaved"},
        Resumption{"experts_apart", tiny_mixtral_model(), "dp=2", "dp=2 ep=2"},
        Resumption{"experts_together", tiny_mixtral_model(), "dp=2 ep=2 zero=1", "pp=2 tp=2"}),
    [](const auto& tested) { return tested.param.name; });

class ResumeUnderTheSamePlan : public ::testing::TestWithParam<Resumption> {};

TEST_P(ResumeUnderTheSamePlan, GivesTheSameBits) {
  const TrainedRun whole = run_through(GetParam());
  const TrainedRun resumed = stop_and_go_on(GetParam());
  EXPECT_EQ(resumed.losses,
            std::vector<double>(whole.losses.begin() + kSavedStep, whole.losses.end()));
  EXPECT_EQ(resumed.parameters, whole.parameters);
}

INSTANTIATE_TEST_SUITE_P(
    Plans,
    ResumeUnderTheSamePlan,
    ::testing::Values(
        Resumption{"one", tiny_gpt2_model(), "dp=1 micro=3", "dp=1 micro=3"},
        Resumption{"zero3", tiny_gpt2_model(), "dp=4 zero=3", "dp=4 zero=3"},
        Resumption{"tied_pipeline", tiny_qwen3_model(), "pp=2 dp=2 zero=1", "pp=2 dp=2 zero=1"},
        Resumption{"experts", tiny_mixtral_model(), "dp=2 tp=2 ep=2", "dp=2 tp=2 ep=2"},
        Resumption{
            "bf16_zero1", tiny_llama_model(), "dp=2 zero=1", "dp=2 zero=1", Precision::kBFloat16},
        Resumption{"bf16_tensor", tiny_gpt2_model(), "tp=2", "tp=2", Precision::kBFloat16}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace shardwise::testing
