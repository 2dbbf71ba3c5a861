// Every plan trains the same model: against one rank, in fp32 the first step's gradients of every
// parameter, the losses and norms of ten steps and the parameters after them; in bf16 the losses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "run_plan_testing.h"

namespace shardwise::testing {
namespace {

constexpr int kSteps = 10;

const std::vector<TestModel>& models() {
  static const std::vector<TestModel> list = {
      tiny_gpt2_model(), tiny_llama_model(), tiny_qwen3_model(), tiny_mixtral_model()};
  return list;
}

const TestModel& model_called(const std::string& name) {
  return *std::find_if(
      models().begin(), models().end(), [&](const TestModel& m) { return m.name == name; });
}

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

struct Case {
  std::string model;
  std::string layout;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.model << ", " << c.layout; }

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.model + "_" + info.param.layout;
  for (char& c : name) {
    c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  return name;
}

std::vector<Case> cases() {
  const std::vector<std::string> of_all = {
      "dp=2",
      "dp=4",
      "dp=2 micro=3",
      "dp=2 zero=1",
      "dp=2 zero=2",
      "dp=2 zero=3",
      "dp=4 zero=1",
      "dp=4 zero=3 micro=3",
      "tp=2",
      "tp=4",
      "tp=2 sp=1",
      "tp=4 sp=1",
      "cp=2",
      "cp=2 micro=3",
      "pp=2 schedule=gpipe",
      "pp=2 schedule=1f1b",
      "pp=2 schedule=1f1b-eager",
      "pp=2 vp=2 schedule=interleaved",
      "pp=4 schedule=1f1b",
      "pp=4 schedule=gpipe micro=4",
      "pp=3 schedule=1f1b-eager",
      "recompute=full micro=3",
      "recompute=selective micro=3",
      "tp=2 sp=1 recompute=selective",
      "tp=2 sp=1 recompute=full",
      "dp=2 zero=3 recompute=full",
      "dp=2 tp=2",
      "dp=2 tp=2 sp=1 zero=1",
      "dp=2 tp=2 zero=3",
      "dp=2 cp=2 zero=2",
      "cp=2 tp=2",
      "pp=2 tp=2",
      "pp=2 tp=2 sp=1 schedule=1f1b-eager",
      "pp=2 dp=2",
      "pp=2 dp=2 zero=1",
      "pp=2 dp=2 zero=3 schedule=gpipe",
      "pp=2 dp=2 vp=2 schedule=interleaved zero=2",
      "pp=2 cp=2",
      "pp=2 layers=3,1",
  };
  std::vector<Case> list;
  for (const TestModel& model : models()) {
    for (std::string layout : of_all) {
      // llama has five layers: an uneven split for every pipeline.
      if (model.name == "llama" && layout.find("layers=") != std::string::npos) {
        layout = "pp=2 layers=4,1";
      }
      list.push_back({model.name, layout});
    }
  }
  for (const char* layout : {"dp=2 ep=2",
                             "tp=2 ep=2",
                             "dp=4 ep=4",
                             "dp=2 ep=2 zero=1",
                             "dp=2 ep=2 pp=2",
                             "dp=2 tp=2 ep=2",
                             "dp=2 tp=2 ep=4 sp=1",
                             "dp=2 ep=2 recompute=full"}) {
    list.push_back({"mixtral", layout});
  }
  return list;
}

class EveryPlan : public ::testing::TestWithParam<Case> {};

TEST_P(EveryPlan, TrainsTheSameModel) {
  const TestPlan plan =
      plan_of(model_called(GetParam().model), GetParam().layout, Precision::kFloat32);
  expect_equal_training(run_plan(plan.plan, plan.graph, kSteps),
                        reference_run(GetParam().model, Precision::kFloat32));
}

TEST_P(EveryPlan, HasTheSameLossesInBFloat16) {
  const TestPlan plan =
      plan_of(model_called(GetParam().model), GetParam().layout, Precision::kBFloat16);
  const TrainedRun run = run_plan(plan.plan, plan.graph, 3);
  const TrainedRun& reference = reference_run(GetParam().model, Precision::kBFloat16);
  for (std::size_t step = 0; step < 3; ++step) {
    EXPECT_NEAR(run.losses[step], reference.losses[step], 2e-3 * reference.losses[step]) << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Matrix, EveryPlan, ::testing::ValuesIn(cases()), case_name);

class EveryModel : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryModel, RunsOnStagesOfThreeAndOneDevices) {
  const TestModel& model = model_called(GetParam());
  const TestPlan three = plan_of(model, "dp=3 micro=1", Precision::kFloat32);
  const TestPlan one = plan_of(model, "dp=1 micro=3", Precision::kFloat32);
  for (const int layers : {2, 4}) {
    expect_equal_training(run_plan(join_plans(three, layers, one), three.graph, kSteps),
                          reference_run(model.name, Precision::kFloat32));
    expect_equal_training(run_plan(join_plans(one, layers, three), three.graph, kSteps),
                          reference_run(model.name, Precision::kFloat32));
  }
}

TEST_P(EveryModel, RunsOnStagesWithDifferentMeshes) {
  const TestModel& model = model_called(GetParam());
  const TestPlan data = plan_of(model, "dp=2 micro=1", Precision::kFloat32);
  const TestPlan sharded = plan_of(model, "dp=2 micro=1 zero=3", Precision::kFloat32);
  const TestPlan tensor = plan_of(model, "tp=2 micro=2", Precision::kFloat32);
  const TestPlan sequence = plan_of(model, "tp=2 sp=1 micro=2", Precision::kFloat32);
  const TrainedRun& reference = reference_run(model.name, Precision::kFloat32);
  for (const auto& [first, second] : {std::pair(&data, &tensor),
                                      std::pair(&tensor, &data),
                                      std::pair(&sharded, &sequence),
                                      std::pair(&sequence, &sharded)}) {
    expect_equal_training(run_plan(join_plans(*first, 3, *second), data.graph, kSteps), reference);
  }
}

TEST_P(EveryModel, GivesTheSameBitsTwice) {
  const TestModel& model = model_called(GetParam());
  for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
    const TestPlan plan = plan_of(model, "pp=2 tp=2 sp=1", precision);
    const TrainedRun first = run_plan(plan.plan, plan.graph, 3);
    const TrainedRun second = run_plan(plan.plan, plan.graph, 3);
    EXPECT_EQ(first.losses, second.losses);
    EXPECT_EQ(first.norms, second.norms);
    EXPECT_EQ(first.parameters, second.parameters);
  }
}

INSTANTIATE_TEST_SUITE_P(Families,
                         EveryModel,
                         ::testing::Values("gpt2", "llama", "qwen3", "mixtral"),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace shardwise::testing
