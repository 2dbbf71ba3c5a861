// The classical uniform grid, Megatron's way, as a Plan: one tensor, context, data and pipeline
// degree for all layers alike. Flags and the text of `--layout` become a plan here.
//
// Devices are numbered as in Megatron-LM (order tp-cp-ep-dp-pp): tensor ranks are neighbours, then
// context, then data; pipeline stages are farthest apart.
//
//   tensor    q, k, v, gate, up and fc1 shard their output, o, down and fc2 their input, attention
//             its heads, embedding and head the vocabulary; norms and residual adds are repeated,
//             or shard the sequence with `sequence_parallel`. Fewer key/value heads than the
//             degree: one free mesh axis shards key/value heads, the other the queries of each
//   context   every op shards the sequence; keys and values are gathered before attention
//   expert    over the data axis by all-to-all (degree = data), over the tensor axes (degree =
//             tensor), or over both (degree = data x tensor)
//   pipeline  `layers` decoder layers for each virtual stage; embedding joins the first, head the
//             last. Empty: even; what is left over goes to the first stages, one each
//             (to the last ones if a rank has several)
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "graph/plan.h"

namespace shardwise {

// Builds the graph of one micro-batch of the model for any micro-batch size (sequences).
using GraphBuilder = std::function<Graph(std::int64_t microbatch)>;

struct UniformLayout {
  int tensor = 1;
  int pipeline = 1;
  int data = 1;
  int context = 1;
  int expert = 1;
  int chunks = 1;  // virtual stages on each pipeline rank
  int zero = 0;    // 0 none, 1 optimizer, 2 gradients, 3 parameters
  bool sequence_parallel = false;
  std::int64_t micro = 1;  // sequences of a micro-batch on one data rank
  Recompute recompute = Recompute::kNone;
  Schedule schedule = Schedule::k1F1B;
  std::vector<int> layers;  // decoder layers of each virtual stage, in model order; empty: even

  int world() const { return tensor * pipeline * data * context; }
  std::int64_t microbatch() const { return micro * data; }  // sequences, whole stage
  bool operator==(const UniformLayout&) const = default;
};

// "tp=8 pp=4 dp=4 cp=1 ep=1 vp=2 zero=1 sp=1 micro=2 recompute=full schedule=interleaved
// layers=9,7": keys in any order, absent ones keep their default; vp above 1 without a schedule
// means interleaved. Throws InputError that names `where` and the key.
UniformLayout parse_uniform_layout(const std::string& text, const std::string& where);

// Text that parse_uniform_layout reads back; keys at their default are left out ("dp=1" if all
// are).
std::string to_string(const UniformLayout& layout);

// The plan of one step of `batch` sequences on ranks 0 .. world - 1. `graph` must be built for
// micro-batches of layout.microbatch() sequences of `sequence` tokens. The plan is valid
// (plan_violations is empty); throws InputError with numbers and the nearest remedy where the
// layout does not fit model, batch or world.
Plan make_uniform_plan(const Graph& graph,
                       const UniformLayout& layout,
                       std::int64_t batch,
                       std::int64_t sequence,
                       Precision precision,
                       int world,
                       const std::string& where);

// Same; builds the graph for the micro-batch that the layout asks for.
Plan make_uniform_plan(const GraphBuilder& graph,
                       const UniformLayout& layout,
                       std::int64_t batch,
                       std::int64_t sequence,
                       Precision precision,
                       int world,
                       const std::string& where);

}  // namespace shardwise
