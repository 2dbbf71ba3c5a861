// Runs of Sailor's framework (Megatron-DeepSpeed pipelines) priced from whole profiled layers, with
// what Sailor measured of a cluster: times of layers, their sizes, bandwidths between nodes.
//
// P stages, m micro-batches; p_i a stage's layers, forward and backward of one micro-batch; o_i the
// transfers between stage i and i + 1, both directions (o_P = 0); g_i and u_i the reduction of the
// gradients and the update of a stage:
//
//   step     = sum p_i + sum o_i + (m - 1) max_i (o_(i-1) + p_i + o_i) + max_i (g_i + u_i)
//   memory_i = process + 5 W_i + min(m, P - i + 1) A_i + max over layers of a
//
// Sources: the order of transfers is that of DeepSpeed's TrainSchedule, which exchanges with one
// neighbour before a forward, with the other before a backward, and runs nothing beside (a stage
// pays both of its neighbours' transfers, ours pays one: docs/cost_model.md). Reduction: after the
// last backward, a ring over the replicas, 2 (n - 1) / n of the parameters. Memory: weights,
// gradients, two moments and the copy in which gradients are reduced, all fp32 (W_i bytes each: the
// layer memory of Sailor's profiles is 5 W + A), what layers keep (A_i, a of one layer), and
// gradients of as much as one layer keeps while its backward runs.
// Left out: launches that a layer measured alone does not hide, tied weights, uneven replicas.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cost/layer_profile.h"

namespace shardwise {

// Sizes of a layer on one device of a tensor group, as the file states them.
struct SailorLayerSize {
  double parameter_bytes = 0;
  double output_bytes = 0;  // of one sequence
  double kept_bytes = 0;    // for backward, of one sequence
};

using SailorSizes = std::map<int, std::vector<SailorLayerSize>>;  // by tensor degree

// Bandwidth of `devices` of one node that send to another node at once, all together:
//   min(a x^2 + b x + c, most) GB/s   for x = log2(bytes / 1e6) >= 0; smaller messages get c.
struct SailorLink {
  double a = 0;
  double b = 0;
  double c = 0;
  BytesPerSecond most{0};

  BytesPerSecond bandwidth(double message_bytes) const;
};

using SailorLinks = std::map<int, SailorLink>;  // by number of devices that send

// One pipeline, replicated `data` times; every tensor group fills a node of its own.
struct SailorRun {
  std::string device;       // "GH-96"
  std::vector<int> layers;  // of each stage, first to last
  int tensor = 1;
  int data = 1;
  int microbatch = 1;  // sequences
  int batch = 1;       // sequences of a step, all replicas
  // What Sailor measured of it.
  std::optional<Seconds> measured_step;
  std::optional<Bytes> measured_memory;

  int microbatches() const { return batch / (microbatch * data); }
};

struct SailorStage {
  Seconds compute{0};   // p_i
  Seconds transfer{0};  // o_i
  Seconds reduction{0};
  Seconds update{0};
  Bytes states{0};  // 5 W_i
  Bytes kept{0};    // of all micro-batches in flight
  Bytes memory{0};
};

struct SailorEvaluation {
  Seconds step{0};
  Bytes memory{0};  // worst stage
  std::vector<SailorStage> stages;
};

// Throws InputError, in the name of `run_name`, where profile, sizes or links lack the run's tensor
// degree, micro-batch or number of layers, or where sizes add up to more than 1e18 bytes.
SailorEvaluation evaluate_sailor(const SailorRun& run,
                                 const std::string& run_name,
                                 const LayerProfile& profile,
                                 const SailorSizes& sizes,
                                 const SailorLinks& links,
                                 Bytes process_memory);

}  // namespace shardwise
