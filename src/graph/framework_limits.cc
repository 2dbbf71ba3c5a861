// What each framework can say of a plan that treats all layers alike.
//
// Sources: Megatron-LM core 0.19 (arguments.py, pipeline_parallel_layer_layout.py), torchtitan
// 0.2.2 (job_config, parallel_dims, parallelize), DeepSpeed 0.19 (config JSON, AutoTP, AutoEP),
// accelerate 1.15 (ParallelismConfig, FSDP2).
#include <fmt/format.h>

#include <array>
#include <vector>

#include "core/errors.h"
#include "core/text.h"
#include "graph/framework_plan.h"

namespace shardwise {

namespace {

constexpr std::array kFrameworks = {
    Framework::kMegatron, Framework::kTorchtitan, Framework::kDeepspeed, Framework::kAccelerate};

// Ranks that hold the same parameters, which state sharding shares out.
int replicas(const FrameworkPlan& plan) { return plan.data * plan.context; }

std::string refuse_everywhere(const FrameworkPlan& plan) {
  if (plan.zero > 0 && replicas(plan) == 1) {
    return "frameworks share out state over data and context ranks only, of which the plan has "
           "one; plan with --pin state=none";
  }
  if (plan.pipeline > 1 && plan.schedule == Schedule::kInterleaved && plan.chunks == 1) {
    return "an interleaved schedule needs two chunks on each stage; plan with --schedule 1f1b";
  }
  return "";
}

std::string refuse_schedule(const FrameworkPlan& plan,
                            const std::vector<Schedule>& known,
                            const std::string& name) {
  std::vector<std::string> names;
  for (const Schedule schedule : known) {
    if (plan.pipeline == 1 || plan.schedule == schedule) {
      return "";
    }
    names.push_back(to_string(schedule));
  }
  return fmt::format("{} runs the schedules {}, the plan has {}; plan with --schedule 1f1b",
                     name,
                     join(names, ", "),
                     to_string(plan.schedule));
}

std::string refuse_shared_heads(const FrameworkPlan& plan, const std::string& name) {
  return plan.head_shards == plan.tensor
             ? ""
             : fmt::format(
                   "{} needs key/value heads that the tensor degree divides, found {} on "
                   "{} ranks",
                   name,
                   plan.key_value_heads,
                   plan.tensor);
}

std::string refuse_megatron(const FrameworkPlan& plan) {
  if (plan.expert > 1 && plan.tensor > 1 && !plan.sequence_parallel) {
    return "Megatron-LM trains experts with tensor parallelism only with sequence parallelism, "
           "which the plan lacks";
  }
  if (plan.head_shards != plan.tensor && plan.head_shards != plan.key_value_heads) {
    return fmt::format(
        "Megatron-LM repeats key/value heads only if their number divides the tensor degree, found "
        "{} on {} ranks",
        plan.key_value_heads,
        plan.tensor);
  }
  return refuse_schedule(plan, {Schedule::k1F1B, Schedule::kInterleaved}, "Megatron-LM");
}

std::string refuse_torchtitan(const FrameworkPlan& plan) {
  if (plan.zero == 1) {
    return "torchtitan shards gradients or parameters with the optimizer, never the optimizer "
           "alone; plan with --forbid state=optimizer";
  }
  if (plan.zero == 0 && plan.context > 1) {
    return "torchtitan shards state over context ranks; plan with --forbid state=none";
  }
  if (plan.tensor > 1 && !plan.sequence_parallel) {
    return "torchtitan's tensor parallelism shards the sequence between the parallel parts, the "
           "plan does not";
  }
  const int shards = (plan.zero > 1 ? plan.data : 1) * plan.context * plan.tensor;
  if (plan.expert > 1 && shards % plan.expert != 0) {
    return fmt::format(
        "torchtitan spreads experts over ranks that share out state, context or tensors; found {} "
        "of them for expert degree {}; plan with --pin state=gradients|parameters",
        shards,
        plan.expert);
  }
  if (plan.expert > 1 && plan.expert_tensor > 1 && plan.expert_tensor != plan.tensor) {
    return fmt::format("torchtitan cuts experts among all tensor ranks or none, found {} of {}",
                       plan.expert_tensor,
                       plan.tensor);
  }
  const std::string heads = refuse_shared_heads(plan, "torchtitan");
  return heads.empty()
             ? refuse_schedule(
                   plan, {Schedule::k1F1B, Schedule::kInterleaved, Schedule::kGpipe}, "torchtitan")
             : heads;
}

std::string refuse_deepspeed(const FrameworkPlan& plan) {
  if (plan.pipeline > 1) {
    return "DeepSpeed's pipelines are written in code (PipelineModule), its JSON has none; plan "
           "with --forbid cut=before";
  }
  if (plan.context > 1) {
    return "DeepSpeed splits sequences by exchanging heads (Ulysses), the plan gathers keys and "
           "values";
  }
  if (plan.tensor > 1 && plan.sequence_parallel) {
    return "DeepSpeed's AutoTP does not shard the sequence between the parallel parts, the plan "
           "does";
  }
  if (plan.tensor > 1 && plan.expert > 1) {
    return "DeepSpeed's AutoTP and AutoEP do not go together";
  }
  if (plan.recomputes) {
    return "DeepSpeed's activation checkpointing is called in code; plan with --pin "
           "recompute=none";
  }
  return refuse_shared_heads(plan, "DeepSpeed");
}

std::string refuse_accelerate(const FrameworkPlan& plan) {
  if (plan.pipeline > 1) {
    return fmt::format("accelerate has no pipeline parallelism, the plan has {} stages",
                       plan.pipeline);
  }
  if (plan.expert > 1) {
    return fmt::format("accelerate has no expert parallelism, the plan has degree {}", plan.expert);
  }
  if (plan.tensor > 1 && plan.sequence_parallel) {
    return "accelerate's tensor parallelism does not shard the sequence, the plan does";
  }
  if (plan.zero == 1 || plan.zero == 2) {
    return fmt::format(
        "accelerate's FSDP2 shards parameters too or nothing, the plan shards state of {}",
        plan.zero == 1 ? "the optimizer" : "optimizer and gradients");
  }
  if ((plan.tensor > 1 || plan.context > 1) && (plan.zero != 3 || plan.data == 1)) {
    return "accelerate combines tensor or context parallelism with sharded data parallelism only; "
           "plan with --pin state=parameters";
  }
  if (plan.recomputes && plan.zero != 3) {
    return "accelerate's activation checkpointing is FSDP's, the plan does not shard parameters";
  }
  return refuse_shared_heads(plan, "accelerate");
}

}  // namespace

std::span<const Framework> all_frameworks() { return kFrameworks; }

std::string to_string(Framework framework) {
  constexpr std::array kNames = {"megatron", "torchtitan", "deepspeed", "accelerate"};
  return kNames[static_cast<std::size_t>(framework)];
}

Framework parse_framework(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const Framework framework : kFrameworks) {
    names.push_back(to_string(framework));
    if (names.back() == name) {
      return framework;
    }
  }
  throw InputError(
      where,
      fmt::format(
          "expected one of {}, found \"{}\"{}", join(names, ", "), name, suggest(name, names)));
}

std::string framework_refusal(Framework framework, const FrameworkPlan& plan) {
  std::string refusal = refuse_everywhere(plan);
  if (!refusal.empty()) {
    return refusal;
  }
  switch (framework) {
    case Framework::kMegatron:
      return refuse_megatron(plan);
    case Framework::kTorchtitan:
      return refuse_torchtitan(plan);
    case Framework::kDeepspeed:
      return refuse_deepspeed(plan);
    case Framework::kAccelerate:
      return refuse_accelerate(plan);
  }
  SHARDWISE_CHECK(false, "unknown framework");
}

}  // namespace shardwise
