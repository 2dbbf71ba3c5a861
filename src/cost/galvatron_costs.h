// Galvatron's own cost formulas, so that its plans can be priced as it prices them and searched
// over exactly. They are a cost source of their own: nothing here mixes with CostTable.
//
// For one micro-batch of b = G / m / d samples a data rank, tensor degree t, sequence degree u
// (DeepSpeed-Ulysses; never together with t), data degree d, D = d u (ranks that hold equal
// parameters), P parameters in MB at 4 bytes, w the overlap slow-down, all times in ms:
//
//   f     = line(b / max(t, u))                       forward
//   g     = 2 f, + f if recomputed                    backward
//   V     = (D - 1) / D * P / t                       gradient message, 2 bytes and both directions
//   x(V)  = g + (w - 1) V / B          if V / B < g   gradients overlapped with backward
//         = w g + V / B - g            else           B = all-reduce bandwidth of the D ranks
//   layer = f + x(V) + 6 allgather(t) or 4 alltoall(u), 1.5 times as many if recomputed,
//           + V / (2 B) for ZeRO-3, + 2 p b s h / (B_p L) with p > 1 stages
//
// and for the p stages with C_i the sum of their layers without V and of their ends, S_i the sum of
// their layers with V:
//
//   kMain  T = max(sum C + (m - 1) C_p, max(min(p, m) - 1) C_1, C_2 + ... + C_p) + C_1 (m + 1 - p))
//   kV21   T = max C (m - 1 + p)
//   step   = T + max(0, max_i (S_i - C_1 - ... - C_i))
//
// Source: PKU-DAIR/Hetu-Galvatron, galvatron/core/cost_model (kMain: cea12ff; kV21: tag v2.1, whose
// tensor parallelism is priced by bandwidth and whose ends cost no time). Left out: context
// parallelism, which its formulas ignore.
#pragma once

#include <cstdint>
#include <vector>

#include "core/units.h"
#include "cost/galvatron_profile.h"

namespace shardwise {

enum class GalvatronVersion { kMain, kV21 };

struct GalvatronJob {
  GalvatronVersion version = GalvatronVersion::kMain;
  GalvatronModelProfile model;
  GalvatronHardware hardware;
  std::vector<int> layers;  // how many of each layer type, in order
  int devices = 8;
  int batch = 8;
  double memory_gb = 16;  // of a device; above 20 GB a fifth is left to the allocator, as there

  int num_layers() const;
  int type_of_layer(int layer) const;
  // Whole MB that layers and ends may fill.
  std::int64_t memory_limit_mb() const;
};

// How one layer runs on the devices of its stage: tensor * sequence * data of them.
struct GalvatronStrategy {
  int tensor = 1;
  int sequence = 1;
  int data = 1;
  enum class States { kZero2, kZero3 };
  States states = States::kZero2;
  enum class Activations { kKept, kRecomputed };
  Activations activations = Activations::kKept;
  enum class TensorRanks { kConsecutive, kStrided };  // kV21 only
  TensorRanks tensor_ranks = TensorRanks::kConsecutive;

  int degree() const { return tensor > sequence ? tensor : sequence; }
  auto operator<=>(const GalvatronStrategy&) const = default;
};

// Seconds of a layer in one micro-batch, with and without gradient synchronisation.
struct GalvatronTime {
  double with_sync = 0;
  double without_sync = 0;
};

// Seconds of embedding and head in one micro-batch, without gradient synchronisation; with one
// stage everything is in `first`.
struct GalvatronEndsTime {
  double first = 0;
  double last = 0;
};

// A whole plan in its notation. `buffer_degree`: tensor degree that sizes the shared all-gather
// buffer; 0: no tensor parallelism, no buffer.
struct GalvatronPlan {
  int chunks = 1;
  std::vector<int> stage_layers;
  std::vector<GalvatronStrategy> layers;
  GalvatronStrategy ends;
  int buffer_degree = 0;
};

// Prices for one number of micro-batches and of stages. Throws InputError if the hardware profile
// lacks a group that a strategy needs, naming it. Requires degrees that multiply to devices / pp.
class GalvatronCosts {
 public:
  GalvatronCosts(const GalvatronJob& job, int chunks, int pipeline);

  GalvatronTime layer_time(int type, const GalvatronStrategy& strategy) const;
  // Whole MB of a layer on stage `stage`: states and activations in flight (1F1B).
  std::int64_t layer_memory_mb(int type, const GalvatronStrategy& strategy, int stage) const;
  GalvatronEndsTime ends_time(const GalvatronStrategy& ends) const;
  // Whole MB of embedding, head and the device's context on stage `stage`.
  std::int64_t ends_memory_mb(const GalvatronStrategy& ends, int stage) const;
  std::int64_t buffer_mb(int buffer_degree) const;

  // T of the header's formula, and what of the synchronisation it leaves exposed.
  double pipeline_time(const std::vector<double>& compute) const;
  double exposed_sync(const std::vector<double>& compute, const std::vector<double>& sync) const;

  // Samples of a data rank in one micro-batch; 0 if the strategy splits the batch too far.
  double samples(const GalvatronStrategy& strategy) const;

 private:
  double bandwidth(int group, bool consecutive) const;
  double overlapped(double message_mb, double ms_per_mb, double backward) const;
  double states_ratio(const GalvatronStrategy& strategy) const;
  int in_flight(int stage) const;
  GalvatronTime v21_layer_time(int type, const GalvatronStrategy& strategy) const;
  double boundary_ms(double samples) const;

  const GalvatronJob* job_;
  int chunks_;
  int pipeline_;
};

struct GalvatronEvaluation {
  Seconds step_time{0};
  std::vector<std::int64_t> stage_memory_mb;
  bool fits = true;
};

// Time and memory of any plan by these formulas. Throws InputError for a plan that is none.
GalvatronEvaluation evaluate_galvatron(const GalvatronJob& job, const GalvatronPlan& plan);

}  // namespace shardwise
