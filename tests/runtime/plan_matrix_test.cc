#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "plan_matrix_testing.h"

namespace shardwise::testing {
namespace {

const std::vector<TestModel>& models() {
  static const std::vector<TestModel> list = [] {
    std::vector<TestModel> all = {
        tiny_gpt2_model(), tiny_llama_model(), tiny_qwen3_model(), tiny_mixtral_model()};
    for (std::size_t i = 0; i < 4; ++i) {
      TestModel deep = all[i];
      deep.name = "deep_" + deep.name;
      deep.set_layers(8);
      all.push_back(std::move(deep));
    }
    return all;
  }();
  return list;
}

MatrixCase uniform_case(const std::string& model, const std::string& layout) {
  return {model, layout, [=](Precision precision) {
            return plan_of(model_called(model), layout, precision);
          }};
}

MatrixCase joined_case(const std::string& model,
                       const std::string& first,
                       int layers,
                       const std::string& second) {
  const auto plan = [=](Precision precision) {
    TestPlan joined = plan_of(model_called(model), first, precision);
    joined.plan = join_plans(joined, layers, plan_of(model_called(model), second, precision));
    return joined;
  };
  return {model, first + " for " + std::to_string(layers) + " layers then " + second, plan};
}

MatrixCase recomputing_case(const std::string& model, const std::string& layout) {
  const auto plan = [=](Precision precision) {
    constexpr std::array kModes = {Recompute::kFull, Recompute::kNone, Recompute::kSelective};
    TestPlan some = plan_of(model_called(model), layout, precision);
    std::size_t layer = 0;
    for (StagePlan& stage : some.plan.stages) {
      for (LayerPlan& planned : stage.chunks[0].layers) {
        planned.recompute = kModes[layer++ % kModes.size()];
      }
    }
    return some;
  };
  return {model, layout + " some recomputed", plan};
}

}  // namespace

const TestModel& model_called(const std::string& name) {
  return *std::find_if(
      models().begin(), models().end(), [&](const TestModel& m) { return m.name == name; });
}

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = {"gpt2", "llama", "qwen3", "mixtral"};
  return names;
}

void PrintTo(const MatrixCase& c, std::ostream* out) { *out << c.model << ", " << c.layout; }

std::string case_name(const MatrixCase& c) {
  std::string name = c.model + "_" + c.layout;
  for (char& letter : name) {
    letter = std::isalnum(static_cast<unsigned char>(letter)) != 0 ? letter : '_';
  }
  return name;
}

std::vector<MatrixCase> uniform_cases() {
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
      "pp=4 schedule=1f1b-eager",
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
  };
  std::vector<MatrixCase> list;
  for (const std::string& model : model_names()) {
    for (const std::string& layout : of_all) {
      list.push_back(uniform_case(model, layout));
    }
    // llama has five layers: an uneven split for every pipeline.
    list.push_back(uniform_case(model, model == "llama" ? "pp=2 layers=4,1" : "pp=2 layers=3,1"));
  }
  for (const char* layout : {"dp=2 ep=2",
                             "tp=2 ep=2",
                             "dp=4 ep=4",
                             "dp=2 ep=2 zero=1",
                             "dp=2 ep=2 pp=2",
                             "dp=2 tp=2 ep=2",
                             "dp=2 tp=2 ep=4 sp=1",
                             "dp=2 ep=2 recompute=full"}) {
    list.push_back(uniform_case("mixtral", layout));
  }
  return list;
}

std::vector<MatrixCase> uneven_cases() {
  std::vector<MatrixCase> list;
  for (const std::string& model : model_names()) {
    for (const int layers : {2, 4}) {
      list.push_back(joined_case(model, "dp=3 micro=1", layers, "dp=1 micro=3"));
      list.push_back(joined_case(model, "dp=1 micro=3", layers, "dp=3 micro=1"));
    }
    list.push_back(joined_case(model, "dp=2 micro=1", 3, "tp=2 micro=2"));
    list.push_back(joined_case(model, "tp=2 micro=2", 3, "dp=2 micro=1"));
    list.push_back(joined_case(model, "dp=2 micro=1 zero=3", 3, "tp=2 sp=1 micro=2"));
    list.push_back(joined_case(model, "tp=2 sp=1 micro=2", 3, "dp=2 micro=1 zero=3"));
    for (const char* layout : {"dp=1 micro=3", "dp=2 zero=3 micro=3", "tp=2 sp=1", "pp=2"}) {
      list.push_back(recomputing_case(model, layout));
    }
    list.push_back(uniform_case("deep_" + model, "pp=4 vp=2 schedule=interleaved micro=3"));
  }
  return list;
}

}  // namespace shardwise::testing
