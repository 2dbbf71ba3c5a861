// Megatron-LM: flags of pretrain_gpt.py. Uneven stages and several chunks are spelled out in
// --pipeline-model-parallel-layout (E embedding, t one layer, L loss, | between virtual stages).
#include <fmt/format.h>

#include "io/exporter.h"

namespace shardwise {

namespace {

std::string layout_of(const FrameworkPlan& plan) {
  std::string text;
  for (std::size_t stage = 0; stage < plan.layers.size(); ++stage) {
    text += stage > 0 ? "|" : "E";
    if (plan.layers[stage] > 0) {
      text += plan.layers[stage] > 1 ? fmt::format("t*{}", plan.layers[stage]) : "t";
    }
  }
  return text + "L";
}

std::string text_of(const FrameworkPlan& plan) {
  std::string flags;
  const auto add = [&flags](const std::string& flag) { flags += "  " + flag + "\n"; };
  add(fmt::format("--tensor-model-parallel-size {}", plan.tensor));
  if (plan.sequence_parallel) {
    add("--sequence-parallel");
  }
  add(fmt::format("--pipeline-model-parallel-size {}", plan.pipeline));
  if (plan.pipeline > 1 && (!plan.is_even() || plan.chunks > 1)) {
    add(fmt::format("--pipeline-model-parallel-layout '{}'", layout_of(plan)));
  }
  add(fmt::format("--context-parallel-size {}", plan.context));
  if (plan.expert > 1) {
    add(fmt::format("--expert-model-parallel-size {}", plan.expert));
    add(fmt::format("--expert-tensor-parallel-size {}", plan.expert_tensor));
  }
  add(fmt::format("--micro-batch-size {}", plan.micro));
  add(fmt::format("--global-batch-size {}", plan.batch));
  add(fmt::format("--seq-length {}", plan.sequence));
  if (plan.zero == 1) {
    add("--use-distributed-optimizer");
  } else if (plan.zero > 1) {
    add("--use-megatron-fsdp");
    add(fmt::format("--data-parallel-sharding-strategy {}",
                    plan.zero == 2 ? "optim_grads" : "optim_grads_params"));
    add("--ckpt-format fsdp_dtensor");
  }
  if (plan.recomputes) {
    add("--recompute-granularity full");
    add("--recompute-method uniform");
    add("--recompute-num-layers 1");
  }
  if (plan.precision == Precision::kBFloat16) {
    add("--bf16");
  }
  return fmt::format(
      "# Parallelism for Megatron-LM core 0.19 on {} ranks; the model's own flags go "
      "beside it:\n"
      "#   torchrun --nproc-per-node ... pretrain_gpt.py \"${{PARALLELISM[@]}}\" ...\n"
      "PARALLELISM=(\n{})\n",
      plan.world(),
      flags);
}

}  // namespace

Exporter megatron_exporter() { return {Framework::kMegatron, text_of}; }

}  // namespace shardwise
