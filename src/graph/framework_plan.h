// A plan in the words of other frameworks: one tensor, context, data, expert and pipeline degree
// for all layers alike. What differs by layer has no words there and is refused with the reason.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/plan.h"

namespace shardwise {

struct FrameworkPlan {
  int tensor = 1;
  int context = 1;
  int data = 1;
  int expert = 1;         // ranks among which the experts of a layer are spread
  int expert_tensor = 1;  // ranks that share one expert's features
  int pipeline = 1;
  int chunks = 1;
  bool sequence_parallel = false;  // norms and residual adds shard the sequence over tensor ranks
  int zero = 0;
  bool recomputes = false;  // the whole of every layer but embedding and head
  // Key/value heads that tensor ranks shard; more ranks than that also shard the queries of each.
  int head_shards = 1;
  std::int64_t key_value_heads = 1;
  Schedule schedule = Schedule::k1F1B;
  Precision precision = Precision::kFloat32;
  std::int64_t micro = 1;  // sequences of a micro-batch on one data rank
  std::int64_t batch = 1;
  std::int64_t sequence = 1;
  int num_microbatches = 1;
  std::vector<int> layers;  // decoder layers of each virtual stage, in model order

  int world() const { return tensor * context * data * pipeline; }
  bool is_even() const;
};

// Whether the model is what frameworks lay out: an embedding, one stack of layers, a head.
bool is_one_stack(const Graph& graph);

// Throws InputError that begins with `where` and names layer and op if layers differ, if tensors
// between layers are laid out otherwise than their ops leave them, if the model is not one
// stack, or if ranks are in another order than tensor, context, data, pipeline (innermost first) or
// not consecutive. Recomputation of embedding and head is not looked at: frameworks keep what those
// need. Requires a valid plan of the graph (plan_violations).
FrameworkPlan describe_for_frameworks(const Plan& plan,
                                      const Graph& graph,
                                      const std::string& where);

// Frameworks that plans are exported to: Megatron-LM core 0.19, torchtitan 0.2.2, DeepSpeed 0.19
// (what its JSON says), accelerate 1.15 (what its YAML says).
enum class Framework { kMegatron, kTorchtitan, kDeepspeed, kAccelerate };
std::span<const Framework> all_frameworks();
std::string to_string(Framework framework);  // megatron, torchtitan, deepspeed, accelerate
// Throws InputError that begins with `where` and lists the names.
Framework parse_framework(const std::string& name, const std::string& where);

// What of the plan the framework cannot express, as a sentence with the remedy; empty: nothing.
std::string framework_refusal(Framework framework, const FrameworkPlan& plan);

}  // namespace shardwise
