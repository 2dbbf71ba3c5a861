// torchtitan: the TOML of version 0.2.2 (later ones take Python). Data parallelism is replicated
// (zero 0) or FSDP2: resharded after forward (zero 3) or not (zero 2).
#include <fmt/format.h>

#include "io/exporter.h"

namespace shardwise {

namespace {

std::string parts_of(const FrameworkPlan& plan) {
  std::string text;
  int layer = 0;
  for (std::size_t stage = 0; stage < plan.layers.size(); ++stage) {
    std::string names = stage == 0 ? "\"tok_embeddings\"" : "";
    const auto add = [&names](const std::string& name) {
      names += (names.empty() ? "\"" : ", \"") + name + "\"";
    };
    for (int i = 0; i < plan.layers[stage]; ++i) {
      add(fmt::format("layers.{}", layer++));
    }
    if (stage + 1 == plan.layers.size()) {
      add("norm");
      add("output");
    }
    text += fmt::format("  [{}],\n", names);
  }
  return text;
}

std::string schedule_of(const FrameworkPlan& plan) {
  return plan.schedule == Schedule::kGpipe  ? "GPipe"
         : plan.schedule == Schedule::k1F1B ? "1F1B"
                                            : "Interleaved1F1B";
}

std::string text_of(const FrameworkPlan& plan) {
  const bool shards = plan.zero > 1;
  std::string text =
      fmt::format("# Parallelism for torchtitan 0.2.2 on {} ranks.\n[training]\n", plan.world());
  // Without a pipeline micro-batches are accumulated.
  const std::int64_t local = plan.pipeline > 1 ? plan.micro * plan.num_microbatches : plan.micro;
  text += fmt::format("local_batch_size = {}\nglobal_batch_size = {}\nseq_len = {}\n",
                      local,
                      plan.batch,
                      plan.sequence);
  if (plan.precision == Precision::kBFloat16) {
    text += "mixed_precision_param = \"bfloat16\"\nmixed_precision_reduce = \"float32\"\n";
  }
  text += fmt::format(
      "\n[parallelism]\ndata_parallel_replicate_degree = {}\n"
      "data_parallel_shard_degree = {}\n",
      shards ? 1 : plan.data,
      shards ? plan.data : 1);
  if (shards) {
    text +=
        fmt::format("fsdp_reshard_after_forward = \"{}\"\n", plan.zero == 3 ? "always" : "never");
  }
  text += fmt::format(
      "tensor_parallel_degree = {}\ncontext_parallel_degree = {}\n"
      "expert_parallel_degree = {}\npipeline_parallel_degree = {}\n",
      plan.tensor,
      plan.context,
      plan.expert,
      plan.pipeline);
  if (plan.expert > 1) {
    text += fmt::format("expert_tensor_parallel_degree = {}\n", plan.expert_tensor);
  }
  if (plan.pipeline > 1) {
    text += fmt::format(
        "pipeline_parallel_schedule = \"{}\"\n"
        "pipeline_parallel_microbatch_size = {}\n"
        "module_fqns_per_model_part = [\n{}]\n",
        schedule_of(plan),
        plan.micro,
        parts_of(plan));
  }
  text +=
      fmt::format("\n[activation_checkpoint]\nmode = \"{}\"\n", plan.recomputes ? "full" : "none");
  return text;
}

}  // namespace

Exporter torchtitan_exporter() { return {Framework::kTorchtitan, text_of}; }

}  // namespace shardwise
