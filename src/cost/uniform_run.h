// Time of one training step of a decoder on a uniform grid, without a plan and without listing
// ranks: what published tables of throughput describe. Every rank of a stage does the same, so one
// layer, one head and the groups' sizes say it all. Formulas: docs/cost_model.md, "Uniform runs".
#pragma once

#include <cstdint>

#include "cost/decoder_shape.h"
#include "cost/model_constants.h"
#include "graph/cluster.h"
#include "graph/plan.h"

namespace shardwise {

enum class MatrixFormat { kHalf, kFloat8, kFloat8Blocks, kFloat4Blocks };

enum class RunSchedule { kGpipe, k1F1B, kInterleaved, kZeroBubble1, kZeroBubble2 };

enum class Elementwise { kEager, kFused };

// What the software does that no layout says.
struct TrainingSoftware {
  MatrixFormat format = MatrixFormat::kHalf;
  bool flash = true;
  Elementwise elementwise = Elementwise::kFused;
  bool overlaps_tensor = false;    // collectives of tensor parallelism behind products
  bool overlaps_data = true;       // reductions and gathers of data parallelism behind compute
  bool overlaps_pipeline = false;  // messages between stages behind compute
  bool overlaps_experts = false;   // exchange of tokens behind compute
  bool sends_tokens_once = true;   // to a rank or node with several of a token's experts
  bool tuned_attention = false;    // flash attention written for the device's own units
  bool dropout = false;
  bool sequence_parallel = true;
  bool selective_is_half = false;  // selective recomputation repeats half of forward, not attention
  int gradient_bytes = 4;          // of a reduced gradient
  double year = 2025;              // of the software, with its fraction
};

struct UniformRun {
  DecoderShape shape;
  TrainingSoftware software;
  int tensor = 1;
  int context = 1;
  int pipeline = 1;
  int data = 1;
  int expert = 1;
  int chunks = 1;
  RunSchedule schedule = RunSchedule::k1F1B;
  std::int64_t micro = 1;  // sequences
  std::int64_t microbatches = 1;
  std::int64_t sequence = 1;
  Recompute recompute = Recompute::kNone;
  int zero = 0;
};

// Seconds. step = steady + bubble + exposed + update + host.
struct UniformTime {
  double step = 0;
  double steady = 0;  // micro-batches times the slowest stage
  double bubble = 0;
  double exposed = 0;  // once a step: data-parallel communication that shows
  double update = 0;
  double host = 0;
  // One micro-batch of one layer, for explanations.
  double products = 0;
  double attention = 0;
  double elementwise = 0;
  double tensor_communication = 0;
  double expert_communication = 0;
};

// Layers of a pipeline stage: even, what is left over in stages inside. A model with two layers
// less than stages times layers gives embedding and head the place of a layer at both ends.
double stage_layers(const UniformRun& run, bool is_end);

// Requires positive sizes, tensor * context * pipeline * data devices in the cluster (one type).
UniformTime estimate_uniform_run(const UniformRun& run,
                                 const Cluster& cluster,
                                 const ModelConstants& constants = {});

}  // namespace shardwise
