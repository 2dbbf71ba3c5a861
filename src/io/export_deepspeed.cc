// DeepSpeed: its JSON says data parallelism, ZeRO, AutoTP and AutoEP. Pipelines, recomputation and
// context parallelism with gathered keys and values are written in code there, not in the file.
#include <fmt/format.h>

#include "io/exporter.h"

namespace shardwise {

namespace {

std::string text_of(const FrameworkPlan& plan) {
  std::string text = fmt::format(
      "{{\n  \"train_batch_size\": {},\n  \"train_micro_batch_size_per_gpu\": {},\n"
      "  \"gradient_accumulation_steps\": {},\n  \"bf16\": {{\"enabled\": {}}},\n"
      "  \"zero_optimization\": {{\"stage\": {}}}",
      plan.batch,
      plan.micro,
      plan.num_microbatches,
      plan.precision == Precision::kBFloat16,
      plan.zero);
  if (plan.tensor > 1) {
    text += fmt::format(",\n  \"tensor_parallel\": {{\"autotp_size\": {}}}", plan.tensor);
  }
  if (plan.expert > 1) {
    text += fmt::format(",\n  \"expert_parallel\": {{\"enabled\": true, \"autoep_size\": {}}}",
                        plan.expert);
  }
  return text + "\n}\n";
}

}  // namespace

Exporter deepspeed_exporter() { return {Framework::kDeepspeed, text_of}; }

}  // namespace shardwise
