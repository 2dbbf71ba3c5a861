#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "files/json.h"
#include "lower/lower.h"
#include "planner/uniform_layout.h"
#include "run_plan_testing.h"
#include "runtime/thread_communicator.h"

namespace shardwise::testing {
namespace {

constexpr std::int64_t kVocabulary = 61;  // odd: padded under vocabulary parallelism

std::int64_t token_at(std::int64_t step, std::int64_t sequence, std::int64_t place) {
  auto z = static_cast<std::uint64_t>((step * 1000 + sequence) * 1000 + place) + 1;
  z *= 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  return static_cast<std::int64_t>((z >> 33) % kVocabulary);
}

class RandomBatches final : public BatchSource {
 public:
  explicit RandomBatches(const Plan& plan)
      : microbatch_(plan.microbatch()), order_(token_order(plan.sequence, plan.context_chunks)) {}

  void set_step(std::int64_t step) { step_ = step; }

  at::Tensor load(BufferRole role, int microbatch, const Box& box) override {
    at::Tensor tokens =
        at::empty({box.end[0] - box.begin[0], box.end[1] - box.begin[1]}, at::kLong);
    std::int64_t* out = tokens.mutable_data_ptr<std::int64_t>();
    const std::int64_t shift = role == BufferRole::kTargets ? 1 : 0;
    for (std::int64_t i = box.begin[0]; i < box.end[0]; ++i) {
      for (std::int64_t j = box.begin[1]; j < box.end[1]; ++j) {
        *out++ = token_at(
            step_, microbatch * microbatch_ + i, order_[static_cast<std::size_t>(j)] + shift);
      }
    }
    return tokens;
  }

 private:
  std::int64_t microbatch_;
  std::vector<std::int64_t> order_;
  std::int64_t step_ = 1;
};

// Puts a rank's share of a parameter into the whole tensor, element by element.
void place_share(const ParameterState& state, const at::Tensor& share, WholeTensors& whole) {
  const LocalParameter& local = *state.local;
  const at::Tensor values = share.to(at::kFloat).contiguous();
  std::vector<float>& target = whole[local.name];
  target.resize(static_cast<std::size_t>(element_count(local.global_shape)), -1e30f);
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    std::int64_t rest = state.share_begin() + i;
    if (rest >= local.elements) {
      return;
    }
    std::int64_t global = 0;
    std::int64_t stride = 1;
    bool is_padding = false;
    for (std::size_t d = local.shape.size(); d-- > 0;) {
      const std::int64_t place = rest % local.shape[d] + local.box.begin[d];
      rest /= local.shape[d];
      is_padding = is_padding || place >= local.box.end[d];
      global += place * stride;
      stride *= local.global_shape[d];
    }
    if (!is_padding) {
      target[static_cast<std::size_t>(global)] = values.const_data_ptr<float>()[i];
    }
  }
}

TestModel model_of(const std::string& name, const std::string& json, std::int64_t sequence = 16) {
  return {name, json, sequence};
}

}  // namespace

TrainedRun run_plan(const Plan& plan, const Graph& graph, int last_step, const RunHooks& hooks) {
  at::set_num_threads(1);
  TrainedRun run;
  std::mutex mutex;
  const std::vector<Program> programs = lower_all(plan, graph);
  run_as_threads(static_cast<int>(programs.size()), [&](Communicator& communicator) {
    const Program& program = programs[static_cast<std::size_t>(communicator.rank())];
    Executor::Options options;
    options.seed = 5;
    options.optimizer = hooks.optimizer;
    Executor executor(program, graph, plan, communicator, options);
    RandomBatches batches(plan);
    const auto collect = [&](bool gradients, WholeTensors& whole) {
      const std::lock_guard lock(mutex);
      for (const ParameterState& state : executor.parameters().states()) {
        if (state.local->counts_in_norm) {
          place_share(state, gradients ? state.gradient_share : state.master, whole);
        }
      }
    };
    if (hooks.before) {
      hooks.before(executor, program, communicator);
    }
    for (int step = hooks.first_step; step <= last_step; ++step) {
      batches.set_step(step);
      const StepResult result = executor.run_step(step, hooks.learning_rate, batches, [&] {
        if (step == 1) {
          collect(true, run.first_gradients);
        }
      });
      if (communicator.rank() == 0) {
        run.losses.push_back(result.loss);
        run.norms.push_back(result.gradient_norm);
      }
    }
    if (hooks.after) {
      hooks.after(executor, program, communicator);
    }
    collect(false, run.parameters);
    batches.set_step(1);
    const double loss = executor.evaluate(batches);
    if (communicator.rank() == 0) {
      run.evaluation_loss = loss;
    }
  });
  return run;
}

ModelConfig TestModel::config() const {
  return parse_model_config(parse_json(config_json, name + ".json"));
}

void TestModel::set_layers(int layers) {
  for (const std::string key : {"\"n_layer\": ", "\"num_hidden_layers\": "}) {
    if (const auto found = config_json.find(key); found != std::string::npos) {
      const auto begin = found + key.size();
      config_json.replace(begin, config_json.find(',', begin) - begin, std::to_string(layers));
    }
  }
}

TestModel tiny_gpt2_model() {
  return model_of("gpt2", R"({
    "model_type": "gpt2", "vocab_size": 61, "n_positions": 16, "n_embd": 32, "n_layer": 4,
    "n_head": 4, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "initializer_range": 0.1})");
}

TestModel tiny_llama_model() {
  return model_of("llama", R"({
    "model_type": "llama", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": false, "rope_theta": 10000.0, "initializer_range": 0.1})");
}

TestModel tiny_qwen3_model() {
  return model_of("qwen3", R"({
    "model_type": "qwen3", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "tie_word_embeddings": true, "rope_theta": 10000.0, "initializer_range": 0.1,
    "attention_bias": false})");
}

TestModel tiny_mixtral_model() {
  return model_of("mixtral",
                  R"({
    "model_type": "mixtral", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": false,
    "rope_theta": 10000.0, "initializer_range": 0.1, "sliding_window": null})",
                  64);
}

TestPlan plan_of(const TestModel& model, const std::string& layout, Precision precision) {
  const UniformLayout uniform = parse_uniform_layout(layout, "test");
  const ModelConfig config = model.config();
  TestPlan made;
  made.graph = build_graph(config, uniform.microbatch(), model.sequence);
  made.plan = make_uniform_plan(
      made.graph, uniform, kTestBatch, model.sequence, precision, uniform.world(), "test");
  return made;
}

Plan join_plans(const TestPlan& first, int layers, const TestPlan& second) {
  Plan plan = first.plan;
  StagePlan& head = plan.stages[0];
  ChunkPlan& begin = head.chunks[0];
  begin.output_layout = begin.layers[static_cast<std::size_t>(layers)].input_layout;
  begin.layers.resize(static_cast<std::size_t>(layers));
  StagePlan tail = second.plan.stages[0];
  tail.chunks[0].first_layer = layers;
  tail.chunks[0].layers.erase(tail.chunks[0].layers.begin(),
                              tail.chunks[0].layers.begin() + layers);
  for (int& device : tail.devices) {
    device += head.mesh.devices();
  }
  plan.stages.push_back(tail);
  return plan;
}

double norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) {
    sum += static_cast<double>(value) * value;
  }
  return std::sqrt(sum);
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> difference(a.size());
  std::transform(a.begin(), a.end(), b.begin(), difference.begin(), std::minus<>());
  return norm_of(difference) / norm_of(b);
}

}  // namespace shardwise::testing
