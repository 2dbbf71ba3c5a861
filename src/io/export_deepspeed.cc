// DeepSpeed: its JSON says data parallelism, ZeRO, AutoTP and AutoEP. Pipelines, recomputation and
// context parallelism with gathered keys and values are written in code there, not in the file.
#include <fmt/format.h>

#include "core/errors.h"
#include "io/exporter.h"

namespace shardwise {

namespace {

void refuse(const FrameworkPlan& plan, const std::string& where) {
  const auto fail = [&where](const std::string& what) { throw InputError(where, what); };
  if (plan.pipeline > 1) {
    fail(
        "DeepSpeed's pipelines are written in code (PipelineModule), its JSON has none; plan with "
        "--forbid cut=before");
  }
  if (plan.context > 1) {
    fail(
        "DeepSpeed splits sequences by exchanging heads (Ulysses), the plan gathers keys and "
        "values");
  }
  if (plan.sequence_parallel) {
    fail(
        "DeepSpeed's AutoTP does not shard the sequence between the parallel parts, the plan does");
  }
  if (plan.tensor > 1 && plan.expert > 1) {
    fail("DeepSpeed's AutoTP and AutoEP do not go together");
  }
  if (plan.recomputes) {
    fail("DeepSpeed's activation checkpointing is called in code; plan with --pin recompute=none");
  }
}

std::string write(const FrameworkPlan& plan, const std::string& where) {
  refuse(plan, where);
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

Exporter deepspeed_exporter() { return {"deepspeed", write}; }

}  // namespace shardwise
