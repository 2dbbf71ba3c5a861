// Checkpoints saved under one plan and loaded under another, all bits compared; what they hold; and
// what is wrong with them. Faults of the disk: checkpoint_faults_test.cc.
#include "runtime/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <numeric>

#include "checkpoint_testing.h"
#include "core/errors.h"
#include "files/json.h"
#include "files/read_file.h"
#include "files/safetensors_reader.h"
#include "files/temporary_folder.h"

namespace shardwise::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct PlanPair {
  std::string name;
  TestModel model;
  std::string save;
  std::string load;
  Precision save_precision = Precision::kFloat32;
  Precision load_precision = Precision::kFloat32;
};

void PrintTo(const PlanPair& pair, std::ostream* out) { *out << pair.name; }

class ResumeUnderAnotherPlan : public ::testing::TestWithParam<PlanPair> {};

TEST_P(ResumeUnderAnotherPlan, BringsBackEveryBit) {
  const PlanPair& pair = GetParam();
  const TemporaryFolder folder;
  const Job saver(pair.model, pair.save, pair.save_precision);
  saver.save(folder.path(), 3, /*generation=*/1);
  const Job loader(pair.model, pair.load, pair.load_precision);
  EXPECT_EQ(loader.load(folder.path(), /*generation=*/1), 0);
}

constexpr Precision kBFloat = Precision::kBFloat16;
INSTANTIATE_TEST_SUITE_P(
    Pairs,
    ResumeUnderAnotherPlan,
    ::testing::Values(
        PlanPair{"one_to_four", tiny_gpt2_model(), "dp=1", "tp=2 dp=2"},
        PlanPair{"data_to_pipeline", tiny_gpt2_model(), "dp=2", "pp=2"},
        PlanPair{"tensor_2_to_4", tiny_gpt2_model(), "tp=2", "tp=4"},
        PlanPair{"zero3_to_none", tiny_gpt2_model(), "dp=4 zero=3", "dp=2"},
        PlanPair{"pipeline_to_zero3", tiny_gpt2_model(), "pp=2 tp=2", "dp=3 zero=3"},
        PlanPair{"zero1_to_zero2_tensor", tiny_llama_model(), "dp=4 zero=1", "tp=2 dp=2 zero=2"},
        PlanPair{"grouped_queries_over_4", tiny_llama_model(), "tp=4", "pp=3"},
        PlanPair{"norms_of_queries", tiny_qwen3_model(), "pp=2 dp=2 zero=1", "tp=2"},
        PlanPair{"experts", tiny_mixtral_model(), "dp=2 ep=2", "tp=2"},
        PlanPair{"experts_zero", tiny_mixtral_model(), "dp=4 zero=3", "dp=4 ep=4"},
        PlanPair{"bf16", tiny_gpt2_model(), "tp=2 dp=2 zero=2", "pp=2", kBFloat, kBFloat},
        PlanPair{"fp32_to_bf16", tiny_llama_model(), "dp=2", "tp=2", Precision::kFloat32, kBFloat},
        PlanPair{"bf16_to_fp32", tiny_llama_model(), "tp=2", "dp=3 zero=3", kBFloat}),
    [](const auto& tested) { return tested.param.name; });

TEST(Checkpoint, FilesAreTheSameUnderEveryPlan) {
  const TemporaryFolder folder;
  const TestModel model = tiny_mixtral_model();
  Job(model, "dp=1").save(folder.path() / "one", 1, 1);
  Job(model, "tp=2 dp=2 zero=3").save(folder.path() / "four", 1, 1);
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "config.json"}) {
    EXPECT_EQ(read_file(folder.path() / "one/step-1" / name),
              read_file(folder.path() / "four/step-1" / name))
        << name;
  }
}

TEST(Checkpoint, NamesAndShapesAreThoseOfTransformers) {
  const TemporaryFolder folder;
  Job(tiny_gpt2_model(), "tp=2").save(folder.path(), 1, 1);
  const auto reader = SafetensorsReader::open(folder.path() / "step-1");
  EXPECT_THAT(reader.at("transformer.wte.weight").tensor.shape.size(), 2u);
  EXPECT_FALSE(reader.contains("lm_head.weight"));  // tied
  // Fused and transposed: hidden rows, three times as many columns.
  const auto shape = reader.at("transformer.h.0.attn.c_attn.weight").tensor.shape;
  EXPECT_EQ(shape[1], 3 * shape[0]);
}

TEST(Checkpoint, LargeModelsAreWrittenInSeveralFilesWithAnIndex) {
  const TemporaryFolder folder;
  const Job job(tiny_llama_model(), "dp=2");
  CheckpointOptions options;
  options.max_shard_size = Bytes(8000);
  job.save(folder.path(), 1, 1, options);
  EXPECT_TRUE(fs::exists(folder.path() / "step-1/model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(folder.path() / "step-1/model.safetensors"));
  EXPECT_EQ(job.load(folder.path(), 1), 0);
}

TEST(Checkpoint, ConfigNamesTheTypeOfTheWeights) {
  const TemporaryFolder folder;
  Job(tiny_gpt2_model(), "dp=1", kBFloat).save(folder.path(), 1, 1);
  const JsonValue config = read_json_file(folder.path() / "step-1/config.json");
  EXPECT_EQ(config.at("torch_dtype").as_string(), "bfloat16");
  EXPECT_EQ(config.at("model_type").as_string(), "gpt2");
}

TEST(Checkpoint, ProgressComesBack) {
  const TemporaryFolder folder;
  const Job job(tiny_gpt2_model(), "pp=2");
  job.save(folder.path(), 42, 1);
  job.run([&](FakeState& state, CommunicationGroup& everyone) {
    load_checkpoint(folder.path(), state, job.model(), everyone);
    EXPECT_EQ(state.progress(), job.progress(42));
  });
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::path& entry : disk().list(folder)) {
    names.push_back(entry.filename().string());
  }
  return names;
}

TEST(Checkpoint, KeepsTheLastTwoAndPointsToTheNewest) {
  const TemporaryFolder folder;
  const Job job(tiny_gpt2_model(), "dp=1");
  for (const int step : {5, 9, 10, 11}) {
    job.save(folder.path(), step, step);
  }
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "step-10", "step-11"));
  EXPECT_EQ(find_latest(folder.path()), folder.path() / "step-11");
  EXPECT_EQ(job.load(folder.path(), 11), 0);
  EXPECT_GT(job.load(folder.path(), 10), 0);  // the comparison can fail
  EXPECT_EQ(job.load(folder.path() / "step-10", 10), 0);
}

TEST(Checkpoint, ARunThatWentBackDoesNotRemoveLaterSteps) {
  const TemporaryFolder folder;
  const Job job(tiny_gpt2_model(), "dp=1");
  for (const int step : {10, 20, 5}) {
    job.save(folder.path(), step, step);
  }
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "step-10", "step-20", "step-5"));
  EXPECT_EQ(find_latest(folder.path()), folder.path() / "step-5");
}

TEST(Checkpoint, AStepWrittenAgainReplacesTheOldOne) {
  const TemporaryFolder folder;
  const Job job(tiny_gpt2_model(), "dp=2");
  job.save(folder.path(), 5, 1);
  job.save(folder.path(), 5, 2);
  EXPECT_EQ(job.load(folder.path(), 2), 0);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("latest", "step-5"));
}

TEST(FindLatest, GoesWithoutThePointer) {
  const TemporaryFolder folder;
  EXPECT_EQ(find_latest(folder.path()), std::nullopt);
  EXPECT_EQ(find_latest(folder.path() / "missing"), std::nullopt);
  fs::create_directories(folder.path() / "step-9");
  fs::create_directories(folder.path() / "step-10");
  fs::create_directories(folder.path() / "step-11.tmp");
  EXPECT_EQ(find_latest(folder.path()), folder.path() / "step-10");
  folder.write("latest", "step-9\n");
  EXPECT_EQ(find_latest(folder.path()), folder.path() / "step-9");
  folder.write("latest", "../elsewhere");
  EXPECT_EQ(find_latest(folder.path()), folder.path() / "step-10");
}

TEST(LoadWeights, LeavesMomentsAlone) {
  const TemporaryFolder folder;
  Job(tiny_gpt2_model(), "dp=1").save(folder.path(), 1, 1);
  fs::remove(folder.path() / "step-1/optimizer.safetensors");
  const Job job(tiny_gpt2_model(), "tp=2 pp=2", kBFloat);
  std::atomic<std::int64_t> wrong = 0;
  job.run([&](FakeState& state, CommunicationGroup& everyone) {
    load_weights(folder.path() / "step-1", state, job.model(), everyone);
    wrong += state.count_wrong(job.graph(), 1, /*only_weights=*/true);
    EXPECT_EQ(state.progress(), TrainingProgress());
  });
  EXPECT_EQ(wrong, 0);
}

// Message of the InputError with which loading fails on two ranks.
std::string refusal(const fs::path& folder, const TestModel& model) {
  const Job job(model, "dp=2");
  try {
    job.load(folder, 1);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(LoadCheckpoint, NamesWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_THAT(refusal(folder.path(), tiny_gpt2_model()),
              AllOf(HasSubstr(folder.path().string()), HasSubstr("expected a checkpoint")));
  Job(tiny_gpt2_model(), "dp=1").save(folder.path(), 1, 1);
  fs::remove(folder.path() / "step-1/optimizer.safetensors");
  EXPECT_THAT(refusal(folder.path(), tiny_gpt2_model()), HasSubstr("optimizer.safetensors"));
}

TEST(LoadCheckpoint, RefusesAnotherModelByName) {
  const TemporaryFolder folder;
  Job(tiny_gpt2_model(), "dp=1").save(folder.path(), 1, 1);
  EXPECT_THAT(refusal(folder.path(), tiny_llama_model()),
              AllOf(HasSubstr("config.json:"),
                    HasSubstr("expected the plan's model, a llama"),
                    HasSubstr("\"gpt2\"")));
}

TEST(LoadCheckpoint, RefusesAnotherConfigurationByKey) {
  const TemporaryFolder folder;
  Job(tiny_gpt2_model(), "dp=1").save(folder.path(), 1, 1);
  TestModel other = tiny_gpt2_model();
  other.config_json.replace(other.config_json.find("1e-5"), 4, "0.5");
  EXPECT_THAT(refusal(folder.path(), other),
              AllOf(HasSubstr("key 'layer_norm_epsilon'"), HasSubstr("expected 0.5")));
}

TEST(LoadWeights, NamesTensorExpectedAndFoundShape) {
  const TemporaryFolder folder;
  Job(tiny_gpt2_model(), "dp=1").save(folder.path(), 1, 1);
  TestModel other = tiny_gpt2_model();
  other.config_json.insert(other.config_json.find('{') + 1, "\"n_inner\": 20,");
  const Job job(other, "dp=2");
  std::string message;
  try {
    job.run([&](FakeState& state, CommunicationGroup& everyone) {
      load_weights(folder.path() / "step-1", state, job.model(), everyone);
    });
  } catch (const InputError& error) {
    message = error.what();
  }
  EXPECT_THAT(message,
              AllOf(HasSubstr("step-1: tensor 'transformer.h.0.mlp.c_fc."),
                    HasSubstr("expected shape ["),
                    HasSubstr("20], found [")));
}

}  // namespace
}  // namespace shardwise::testing
