// Kernels at the sizes of a GPT-2-style model of 30 M parameters (8 sequences of 256 tokens, width
// 512, 8 heads, vocabulary 50,257 cut to 8,192 so that a run is short) and of its Llama-style twin,
// one thread, fp32. "eager" rows are PyTorch's own operators for the same work without autograd's
// own cost: what a kernel is to be compared with.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include <string>
#include <vector>

#include "graph/block_builder.h"
#include "runtime/kernel.h"

namespace shardwise {
namespace {

constexpr std::int64_t kBatch = 8;
constexpr std::int64_t kSequence = 256;
constexpr std::int64_t kWidth = 512;
constexpr std::int64_t kHead = 64;
constexpr std::int64_t kVocabulary = 8192;

// One op with random operands, and everything its backward needs.
class BenchOp {
 public:
  explicit BenchOp(Block block) : block_(std::move(block)) {
    at::set_num_threads(1);
    at::manual_seed(1);
    const Op& op = block_.ops.back();
    context_.op = &op;
    context_.sizes = local_axis_sizes(op, context_.assignment, context_.mesh);
    context_.sequence = kSequence;
    for (const Operand& input : op.inputs) {
      inputs_.push_back(random(input));
    }
    for (const Operand& parameter : op.parameters) {
      context_.parameters.push_back(random(parameter));
      context_.parameter_gradients.push_back(at::zeros_like(context_.parameters.back()));
    }
    const std::vector<at::Tensor> forward_results = forward();
    const SavedForBackward saved = definition_of(op.kind).saved(op);
    for (const int input : saved.inputs) {
      backward_.saved_inputs.push_back(inputs_[static_cast<std::size_t>(input)]);
    }
    for (const int output : saved.outputs) {
      backward_.saved_outputs.push_back(forward_results[static_cast<std::size_t>(output)]);
    }
    backward_.statistics.assign(
        forward_results.begin() + static_cast<std::ptrdiff_t>(op.outputs.size()),
        forward_results.end());
    if (op.kind != OpKind::kCrossEntropy) {
      backward_.output_gradients.push_back(at::randn_like(forward_results[0]));
    }
  }

  const std::vector<at::Tensor>& inputs() const { return inputs_; }
  const KernelContext& context() const { return context_; }
  const Kernel::BackwardInputs& saved() const { return backward_; }

  std::vector<at::Tensor> forward() const { return kernel().forward(context_, inputs_, {}); }
  std::vector<at::Tensor> backward() const { return kernel().backward(context_, backward_, true); }

 private:
  const Kernel& kernel() const { return kernel_of(context_.op->kind); }

  at::Tensor random(const Operand& operand) const {
    const Tensor& tensor = block_.tensors[static_cast<std::size_t>(operand.tensor)];
    if (tensor.type != ElementType::kInt64) {
      return at::randn(tensor.shape, at::TensorOptions(at::kFloat));
    }
    const Op& op = block_.ops.back();
    const int axis = axis_index(op, op.kind == OpKind::kExperts ? "e" : "v");
    const std::int64_t bound = op.axes[static_cast<std::size_t>(axis)].size;
    return at::randint(0, bound, tensor.shape, at::TensorOptions(at::kLong));
  }

  Block block_;
  KernelContext context_;
  std::vector<at::Tensor> inputs_;
  Kernel::BackwardInputs backward_;
};

using Build = Block (*)();

template <typename Body>
Block one_op(const Body& body) {
  BlockBuilder build("bench", kBatch, kSequence);
  body(build);
  return std::move(build).build();
}

Block linear_block() {
  return one_op([](BlockBuilder& build) {
    build.linear("up", build.boundary_input(kWidth), {{"h", kWidth}}, {{"f", 2048}}, true, 0.02);
  });
}

Block attention_block(std::int64_t groups, std::int64_t queries, std::int64_t window) {
  return one_op([=](BlockBuilder& build) {
    const TensorIndex x = build.boundary_input(8);
    const BlockBuilder::Axes heads{
        {"n", groups}, {"r", queries}, {"d", kHead, AxisSharding::kNever}};
    const BlockBuilder::Axes key_heads{{"n", groups}, {"d", kHead, AxisSharding::kNever}};
    const TensorIndex q = build.linear("q", x, {{"h", 8}}, heads, false, 0.02);
    const TensorIndex k = build.linear("k", x, {{"h", 8}}, key_heads, false, 0.02);
    const TensorIndex v = build.linear("v", x, {{"h", 8}}, key_heads, false, 0.02);
    build.attention("attention", q, k, v, {.scale = 0.125, .sliding_window = window});
  });
}
Block multi_head_block() { return attention_block(8, 1, 0); }
Block grouped_block() { return attention_block(2, 4, 0); }
Block windowed_block() { return attention_block(8, 1, 64); }

Block layer_norm_block() {
  return one_op(
      [](BlockBuilder& build) { build.layer_norm("norm", build.boundary_input(kWidth), 1e-5); });
}
Block rms_norm_block() {
  return one_op(
      [](BlockBuilder& build) { build.rms_norm("norm", build.boundary_input(kWidth), 1e-5); });
}
Block rotary_block() {
  return one_op([](BlockBuilder& build) {
    const TensorIndex q = build.linear("q",
                                       build.boundary_input(8),
                                       {{"h", 8}},
                                       {{"n", 8}, {"r", 1}, {"d", kHead, AxisSharding::kNever}},
                                       false,
                                       0.02);
    OpAttributes attributes;
    attributes.rotary_dims = kHead;
    build.rotary("rotary", q, attributes);
  });
}
Block gelu_block() {
  return one_op([](BlockBuilder& build) {
    build.activation("gelu", build.boundary_input(2048), "gelu_tanh");
  });
}
Block gated_block() {
  return one_op([](BlockBuilder& build) {
    const TensorIndex gate = build.boundary_input(2048);
    build.gated_activation("gated", gate, build.boundary_input(2048), "silu");
  });
}
Block embedding_block() {
  return one_op([](BlockBuilder& build) {
    build.embedding("embedding", build.tokens(), kVocabulary, kWidth, 0.02);
  });
}
Block position_block() {
  return one_op([](BlockBuilder& build) {
    build.position_embedding("positions", build.boundary_input(kWidth), kSequence, 0.02);
  });
}
Block cross_entropy_block() {
  return one_op([](BlockBuilder& build) {
    const TensorIndex logits = build.linear("head",
                                            build.boundary_input(8),
                                            {{"h", 8}},
                                            {{"v", kVocabulary, AxisSharding::kPadded}},
                                            false,
                                            0.02);
    build.cross_entropy("loss", logits, build.targets());
  });
}
Block router_block() {
  return one_op([](BlockBuilder& build) {
    build.router("router", build.boundary_input(kWidth), 8, 2, true, 0.02);
  });
}
Block experts_block() {
  return one_op([](BlockBuilder& build) {
    const TensorIndex x = build.boundary_input(kWidth);
    const BlockBuilder::Routing routing = build.router("router", x, 8, 2, true, 0.02);
    build.experts("experts", x, routing, 8, 1024, "silu", 0.02, 0.02);
  });
}

void forward(benchmark::State& state, Build build) {
  const c10::InferenceMode no_tape;
  const BenchOp op(build());
  for (auto _ : state) {
    benchmark::DoNotOptimize(op.forward());
  }
}

void backward(benchmark::State& state, Build build) {
  const c10::InferenceMode no_tape;
  const BenchOp op(build());
  for (auto _ : state) {
    benchmark::DoNotOptimize(op.backward());
  }
}

#define SHARDWISE_KERNEL(name)                                                   \
  BENCHMARK_CAPTURE(forward, name, name##_block)->Unit(benchmark::kMicrosecond); \
  BENCHMARK_CAPTURE(backward, name, name##_block)->Unit(benchmark::kMicrosecond)

SHARDWISE_KERNEL(linear);
SHARDWISE_KERNEL(multi_head);
SHARDWISE_KERNEL(grouped);
SHARDWISE_KERNEL(windowed);
SHARDWISE_KERNEL(layer_norm);
SHARDWISE_KERNEL(rms_norm);
SHARDWISE_KERNEL(rotary);
SHARDWISE_KERNEL(gelu);
SHARDWISE_KERNEL(gated);
SHARDWISE_KERNEL(embedding);
SHARDWISE_KERNEL(position);
SHARDWISE_KERNEL(cross_entropy);
SHARDWISE_KERNEL(router);
SHARDWISE_KERNEL(experts);

// PyTorch's operators for the same work, as autograd would call them.
template <typename Body>
void eager(benchmark::State& state, const BenchOp& op, const Body& body) {
  for (auto _ : state) {
    body(op);
  }
}

void eager_linear_forward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  eager(state, BenchOp(linear_block()), [](const BenchOp& op) {
    benchmark::DoNotOptimize(
        at::linear(op.inputs()[0], op.context().parameters[0], op.context().parameters[1]));
  });
}

// Autograd keeps the first gradient of a step as it is and adds later ones.
void eager_linear_backward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  eager(state, BenchOp(linear_block()), [](const BenchOp& op) {
    const at::Tensor x = op.saved().saved_inputs[0].view({-1, kWidth});
    const at::Tensor dy = op.saved().output_gradients[0].view({-1, 2048});
    benchmark::DoNotOptimize(at::mm(dy, op.context().parameters[0]));
    benchmark::DoNotOptimize(at::mm(dy.t(), x));
    benchmark::DoNotOptimize(at::sum(dy, 0));
  });
}

void eager_cross_entropy_forward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  eager(state, BenchOp(cross_entropy_block()), [](const BenchOp& op) {
    benchmark::DoNotOptimize(
        at::cross_entropy_loss(op.inputs()[0].view({-1, kVocabulary}), op.inputs()[1].view({-1})));
  });
}

void eager_cross_entropy_backward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  const BenchOp op(cross_entropy_block());
  const at::Tensor target = op.inputs()[1].view({-1});
  const at::Tensor log_softmax = at::_log_softmax(op.inputs()[0].view({-1, kVocabulary}), 1, false);
  const auto [loss, weight] =
      at::nll_loss_forward(log_softmax, target, {}, at::Reduction::Mean, -1);
  const at::Tensor one = at::ones_like(loss);
  for (auto _ : state) {
    const at::Tensor gradient =
        at::nll_loss_backward(one, log_softmax, target, {}, at::Reduction::Mean, -1, weight);
    benchmark::DoNotOptimize(at::_log_softmax_backward_data(gradient, log_softmax, 1, at::kFloat));
  }
}

void eager_embedding_backward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  eager(state, BenchOp(embedding_block()), [](const BenchOp& op) {
    benchmark::DoNotOptimize(at::embedding_dense_backward(
        op.saved().output_gradients[0], op.inputs()[0], kVocabulary, -1, false));
  });
}

// transformers' LlamaRMSNorm.
void eager_rms_norm_forward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  eager(state, BenchOp(rms_norm_block()), [](const BenchOp& op) {
    const at::Tensor& x = op.inputs()[0];
    const at::Tensor rstd = at::rsqrt(x.pow(2).mean(-1, /*keepdim=*/true) + 1e-5);
    benchmark::DoNotOptimize(op.context().parameters[0] * (x * rstd));
  });
}

// transformers' apply_rotary_pos_emb.
void eager_rotary_forward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  const at::Tensor cos = at::randn({1, kSequence, 1, 1, kHead});
  eager(state, BenchOp(rotary_block()), [&](const BenchOp& op) {
    const at::Tensor& x = op.inputs()[0];
    const at::Tensor rotated =
        at::cat({-x.narrow(-1, kHead / 2, kHead / 2), x.narrow(-1, 0, kHead / 2)}, -1);
    benchmark::DoNotOptimize(x * cos + rotated * cos);
  });
}

void eager_gated_forward(benchmark::State& state) {
  const c10::InferenceMode no_tape;
  eager(state, BenchOp(gated_block()), [](const BenchOp& op) {
    benchmark::DoNotOptimize(at::silu(op.inputs()[0]) * op.inputs()[1]);
  });
}

BENCHMARK(eager_linear_forward)->Unit(benchmark::kMicrosecond);
BENCHMARK(eager_linear_backward)->Unit(benchmark::kMicrosecond);
BENCHMARK(eager_cross_entropy_forward)->Unit(benchmark::kMicrosecond);
BENCHMARK(eager_cross_entropy_backward)->Unit(benchmark::kMicrosecond);
BENCHMARK(eager_embedding_backward)->Unit(benchmark::kMicrosecond);
BENCHMARK(eager_rms_norm_forward)->Unit(benchmark::kMicrosecond);
BENCHMARK(eager_rotary_forward)->Unit(benchmark::kMicrosecond);
BENCHMARK(eager_gated_forward)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace shardwise
