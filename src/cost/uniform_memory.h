// Memory of the fullest device of a uniform run. Formulas: docs/cost_model.md, "Uniform runs".
#pragma once

#include "cost/uniform_run.h"

namespace shardwise {

// Bytes. total = states + activations + logits + working + reserve.
struct UniformMemory {
  double states = 0;       // weights, gradients, optimizer
  double activations = 0;  // kept for backward, micro-batches in flight
  double logits = 0;       // of the last stage
  double working = 0;      // of one layer: recomputed activations, gathered weights
  double reserve = 0;      // of the device: driver, allocator, communication buffers

  double total() const { return states + activations + logits + working + reserve; }
};

// The fuller one of first and last stage. Same requirements as estimate_uniform_run.
UniformMemory estimate_uniform_memory(const UniformRun& run, const Cluster& cluster);

// Whether weights, gradients and optimizer alone, with the reserve, fit.
bool state_fits(const UniformRun& run, const Cluster& cluster);

// The least recomputation, from `run.recompute` on, with which the run fits; full if nothing does.
Recompute least_recompute_that_fits(const UniformRun& run, const Cluster& cluster);

}  // namespace shardwise
