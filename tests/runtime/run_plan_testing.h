// Runs a plan on ranks as threads and collects what the whole model learned, parameter by
// parameter, whatever the sharding. Shares nothing with checkpoints: parts are placed by index.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "graph/plan.h"
#include "models/model.h"
#include "runtime/executor.h"

namespace shardwise::testing {

using WholeTensors = std::map<std::string, std::vector<float>>;

struct TrainedRun {
  std::vector<double> losses;
  std::vector<double> norms;
  WholeTensors first_gradients;  // of step 1, before clipping
  WholeTensors parameters;       // after the last step
  double evaluation_loss = 0;    // of the trained model on the batch of step 1
};

// What a test does beside training; called on every rank.
struct RunHooks {
  using Hook = std::function<void(Executor&, const Program&, Communicator&)>;
  Hook before;  // the first step
  int first_step = 1;
  Hook after;  // the last step
  AdamW optimizer;
  double learning_rate = 2e-3;
};

// Trains steps first_step .. last_step. Tokens are random but depend only on step, position in the
// batch and place in the sequence.
TrainedRun run_plan(const Plan& plan,
                    const Graph& graph,
                    int last_step,
                    const RunHooks& hooks = {});

// Same plan on a model configuration and `--layout` text.
struct TestModel {
  std::string name;
  std::string config_json;
  std::int64_t sequence = 16;

  ModelConfig config() const;
  void set_layers(int layers);
};
TestModel tiny_gpt2_model();
TestModel tiny_llama_model();  // grouped queries
TestModel tiny_qwen3_model();  // q/k norms, tied
// 4 experts, 2 for each token. Longer sequences than the others: in bf16 rounding makes a token or
// two choose another expert, and a mean over few tokens would show the leap.
TestModel tiny_mixtral_model();

struct TestPlan {
  Graph graph;
  Plan plan;
};
inline constexpr std::int64_t kTestBatch = 12;
TestPlan plan_of(const TestModel& model, const std::string& layout, Precision precision);

// First `layers` layers as in plan `first`, the others as in plan `second` on the devices after
// those of `first`. Both plans have one stage and equal micro-batches.
Plan join_plans(const TestPlan& first, int layers, const TestPlan& second);

// |a - b| / |b| as vectors.
double relative_distance(const std::vector<float>& a, const std::vector<float>& b);
double norm_of(const std::vector<float>& values);

}  // namespace shardwise::testing
