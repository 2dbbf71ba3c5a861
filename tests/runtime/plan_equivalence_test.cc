// Every plan trains the same model: against one rank, in fp32 the first step's gradients of every
// parameter, the losses and norms of ten steps and the parameters after them; in bf16 the losses.
// The same plan twice gives the same bits.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "plan_matrix_testing.h"

namespace shardwise::testing {
namespace {

constexpr int kSteps = 10;

// One rank, the whole batch at once; made once for each model and precision.
const TrainedRun& reference_run(const std::string& model, Precision precision) {
  static std::map<std::pair<std::string, Precision>, TrainedRun> runs;
  const auto [run, is_new] = runs.try_emplace({model, precision});
  if (is_new) {
    const TestPlan one = plan_of(model_called(model), "dp=1 micro=12", precision);
    run->second = run_plan(one.plan, one.graph, kSteps);
  }
  return run->second;
}

// Without position-dependent terms a key bias moves all scores of a query alike: softmax does not
// see it, and its gradient is rounding noise.
bool is_key_bias(const std::string& name) {
  return name.find("attention.k.bias") != std::string::npos ||
         name.find("k_proj.bias") != std::string::npos;
}

void expect_equal_gradients(const WholeTensors& run, const WholeTensors& reference) {
  ASSERT_EQ(run.size(), reference.size());
  for (const auto& [name, expected] : reference) {
    ASSERT_TRUE(run.contains(name)) << name;
    if (is_key_bias(name)) {
      continue;
    }
    const std::vector<float>& found = run.at(name);
    const double distance = relative_distance(found, expected);
    if (norm_of(expected) < 1e-7) {
      EXPECT_LE(distance * norm_of(expected), 1e-8) << name;
    } else {
      EXPECT_LE(distance, 1e-5) << name << ", norm " << norm_of(expected) << " against "
                                << norm_of(found);
    }
  }
}

void expect_equal_training(const TrainedRun& run, const TrainedRun& reference) {
  expect_equal_gradients(run.first_gradients, reference.first_gradients);
  for (std::size_t step = 0; step < kSteps; ++step) {
    EXPECT_NEAR(run.losses[step], reference.losses[step], 1e-5 * reference.losses[step]) << step;
    EXPECT_NEAR(run.norms[step], reference.norms[step], 1e-5 * reference.norms[step]) << step;
  }
  EXPECT_NEAR(run.evaluation_loss, reference.evaluation_loss, 1e-5 * reference.evaluation_loss);
  for (const auto& [name, expected] : reference.parameters) {
    if (!is_key_bias(name)) {
      EXPECT_LE(relative_distance(run.parameters.at(name), expected), 5e-5) << name;
    }
  }
}

// Two steps once more: the gradients of the first, and a loss and norm that show its update.
void expect_same_bits_again(const TestPlan& plan, const TrainedRun& run) {
  const TrainedRun again = run_plan(plan.plan, plan.graph, 2);
  EXPECT_EQ(again.first_gradients, run.first_gradients);
  for (std::size_t step = 0; step < 2; ++step) {
    EXPECT_EQ(again.losses[step], run.losses[step]) << step;
    EXPECT_EQ(again.norms[step], run.norms[step]) << step;
  }
}

class EveryPlan : public ::testing::TestWithParam<MatrixCase> {};

TEST_P(EveryPlan, TrainsTheSameModel) {
  const TestPlan plan = GetParam().plan(Precision::kFloat32);
  const TrainedRun run = run_plan(plan.plan, plan.graph, kSteps);
  expect_equal_training(run, reference_run(GetParam().model, Precision::kFloat32));
  expect_same_bits_again(plan, run);
}

TEST_P(EveryPlan, HasTheSameLossesInBFloat16) {
  const TestPlan plan = GetParam().plan(Precision::kBFloat16);
  const TrainedRun run = run_plan(plan.plan, plan.graph, kSteps);
  const TrainedRun& reference = reference_run(GetParam().model, Precision::kBFloat16);
  for (std::size_t step = 0; step < kSteps; ++step) {
    EXPECT_NEAR(run.losses[step], reference.losses[step], 2e-3 * reference.losses[step]) << step;
  }
  expect_same_bits_again(plan, run);
}

const auto kNameOfCase = [](const ::testing::TestParamInfo<MatrixCase>& info) {
  return case_name(info.param);
};
INSTANTIATE_TEST_SUITE_P(Uniform, EveryPlan, ::testing::ValuesIn(uniform_cases()), kNameOfCase);
INSTANTIATE_TEST_SUITE_P(Uneven, EveryPlan, ::testing::ValuesIn(uneven_cases()), kNameOfCase);

}  // namespace
}  // namespace shardwise::testing
