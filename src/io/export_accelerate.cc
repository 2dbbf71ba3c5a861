// accelerate: YAML with FSDP2 and its parallelism_config. It has no pipeline and no expert axis.
#include <fmt/format.h>

#include "core/errors.h"
#include "io/exporter.h"

namespace shardwise {

namespace {

void refuse(const FrameworkPlan& plan, const std::string& where) {
  const auto fail = [&where](const std::string& what) { throw InputError(where, what); };
  if (plan.pipeline > 1) {
    fail("accelerate has no pipeline parallelism, the plan has " + std::to_string(plan.pipeline) +
         " stages");
  }
  if (plan.expert > 1) {
    fail("accelerate has no expert parallelism, the plan has degree " +
         std::to_string(plan.expert));
  }
  if (plan.sequence_parallel) {
    fail("accelerate's tensor parallelism does not shard the sequence, the plan does");
  }
  if (plan.data > 1 && (plan.zero == 1 || plan.zero == 2)) {
    fail("accelerate's FSDP2 shards parameters too or nothing, the plan shards state " +
         std::string(plan.zero == 1 ? "of the optimizer" : "of optimizer and gradients"));
  }
  const bool replicates = plan.data > 1 && plan.zero == 0;
  if (replicates && (plan.tensor > 1 || plan.context > 1)) {
    fail(
        "accelerate combines tensor or context parallelism with sharded data parallelism only; "
        "plan with --pin state=parameters");
  }
  if (plan.recomputes && plan.zero != 3) {
    fail("accelerate's activation checkpointing is FSDP's, the plan does not shard parameters");
  }
}

std::string write(const FrameworkPlan& plan, const std::string& where) {
  refuse(plan, where);
  const bool shards = plan.zero == 3 && plan.data > 1;
  const bool uses_fsdp = shards || plan.tensor > 1 || plan.context > 1;
  std::string text = fmt::format(
      "# accelerate 1.15; micro-batch {} on each data rank, {} accumulation steps.\n"
      "compute_environment: LOCAL_MACHINE\ndistributed_type: {}\nmixed_precision: {}\n"
      "num_processes: {}\n",
      plan.micro,
      plan.num_microbatches,
      uses_fsdp ? "FSDP" : "MULTI_GPU",
      plan.precision == Precision::kBFloat16 ? "bf16" : "no",
      plan.world());
  if (uses_fsdp) {
    text += fmt::format(
        "fsdp_config:\n  fsdp_version: 2\n  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP\n"
        "  fsdp_reshard_after_forward: {}\n  fsdp_activation_checkpointing: {}\n"
        "  fsdp_state_dict_type: SHARDED_STATE_DICT\n"
        "parallelism_config:\n  parallelism_config_dp_replicate_size: 1\n"
        "  parallelism_config_dp_shard_size: {}\n  parallelism_config_tp_size: {}\n"
        "  parallelism_config_cp_size: {}\n",
        plan.zero == 3,
        plan.recomputes,
        plan.data,
        plan.tensor,
        plan.context);
  }
  return text;
}

}  // namespace

Exporter accelerate_exporter() { return {"accelerate", write}; }

}  // namespace shardwise
