// The plans under which the runtime must train the same model and move the very bytes that the cost
// model charges: four families under every kind of parallelism and their combinations.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "run_plan_testing.h"

namespace shardwise::testing {

// "gpt2", "llama", "qwen3", "mixtral", and with eight decoder layers, enough for two chunks on each
// of four stages, "deep_gpt2", ...
const TestModel& model_called(const std::string& name);
const std::vector<std::string>& model_names();  // without the deep ones

struct MatrixCase {
  std::string model;
  std::string layout;  // or what joins two of them, for names
  std::function<TestPlan(Precision)> plan;
};

void PrintTo(const MatrixCase& c, std::ostream* out);
std::string case_name(const MatrixCase& c);  // letters, digits and underscores

std::vector<MatrixCase> uniform_cases();
// Stages of three and one devices, stages with different meshes, layers that recompute as they
// like, four stages of two chunks.
std::vector<MatrixCase> uneven_cases();

}  // namespace shardwise::testing
