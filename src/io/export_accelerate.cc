// accelerate: YAML with FSDP2 and its parallelism_config. It has no pipeline and no expert axis.
#include <fmt/format.h>

#include "io/exporter.h"

namespace shardwise {

namespace {

std::string text_of(const FrameworkPlan& plan) {
  const bool uses_fsdp = plan.zero == 3;
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
        "  fsdp_reshard_after_forward: true\n  fsdp_activation_checkpointing: {}\n"
        "  fsdp_state_dict_type: SHARDED_STATE_DICT\n"
        "parallelism_config:\n  parallelism_config_dp_replicate_size: 1\n"
        "  parallelism_config_dp_shard_size: {}\n  parallelism_config_tp_size: {}\n"
        "  parallelism_config_cp_size: {}\n",
        plan.recomputes,
        plan.data,
        plan.tensor,
        plan.context);
  }
  return text;
}

}  // namespace

Exporter accelerate_exporter() { return {Framework::kAccelerate, text_of}; }

}  // namespace shardwise
