// Times from a system file of Calculon: peak rates with measured efficiency by size of an
// operation, for a machine whose owner has such a file but neither a profile nor a data sheet here.
//
//   kernel      flops / (peak e(flops)) + bytes / (rate e(bytes)), for each pass of an op; the
//   larger
//               of the two with processing_mode "roofline"
//   collective  latency + S c (1 + o / n) / (bandwidth efficiency), S of the tensor, c and o by
//   kind
//
// e(x): the efficiency of the largest size in its table that is at most x. Gradients of inputs and
// of weights are a pass each. Source: Isaev, McDonald, Dennison, Vuduc, "Calculon", SC'23, section
// 3, and the files' own keys. The files say nothing of token exchange (priced as a gather), of
// waiting for the slowest node, of what a step costs beyond its kernels: those are the modelled
// table's. Left out: processor_usage (kernels slowed by overlapped communication), the second
// memory.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cost/modelled_table.h"

namespace shardwise {

// Efficiency from some size on.
struct EfficiencyStep {
  double least = 0;  // flops or bytes
  double share = 1;
};

struct CalculonEngine {
  double peak = 0;                    // FLOP/s or bytes/s
  std::vector<EfficiencyStep> steps;  // largest size first; the last one's is 0

  // Requires work >= 0.
  double time(double work) const;
};

struct CalculonNetwork {
  double bytes_per_second = 0;
  double efficiency = 1;
  double latency = 0;  // s
  int size = 1;        // devices that it joins
  // Of the tensor's bytes: factor (1 + offset / ranks).
  struct Operation {
    double factor = 1;
    double offset = 0;
  };
  Operation message, all_gather, reduce_scatter, all_reduce;
};

struct CalculonSystem {
  std::string name;
  CalculonEngine matrix;
  CalculonEngine vector;
  CalculonEngine memory;
  double memory_bytes = 0;
  bool adds = true;                       // arithmetic and memory traffic one after the other
  std::vector<CalculonNetwork> networks;  // innermost first

  // Its devices and networks: whole inner networks; the last one joins them. Throws InputError if
  // there are more devices than that joins, or a number that inner networks do not divide.
  Cluster cluster(int devices) const;
};

class CalculonTable final : public CostTable {
 public:
  CalculonTable(CalculonSystem system, const Cluster& cluster, const Execution& execution = {});

  Estimate op_time(const Op& op,
                   std::span<const std::int64_t> sizes,
                   Direction direction,
                   Precision precision,
                   int device_type) const override;
  Estimate collective_time(CollectiveKind kind,
                           Bytes payload,
                           Precision precision,
                           const GroupPlacement& placement) const override;
  Estimate transfer_time(Bytes size, int level, int concurrent) const override;
  Estimate optimizer_time(std::int64_t elements,
                          Precision precision,
                          int device_type) const override;
  Estimate accumulate_time(Bytes size, int device_type) const override;
  double overlap_fraction(int device_type) const override;
  Estimate step_overhead(int ranks) const override;
  Bytes process_memory() const override;
  std::string provenance() const override;
  const Execution& execution() const override { return rest_.execution(); }

 private:
  double pass(const CalculonEngine& engine, double flops, double bytes) const;
  double attention(const Op& op,
                   std::span<const std::int64_t> sizes,
                   Direction direction,
                   Precision precision) const;

  CalculonSystem system_;
  ModelledTable rest_;
  double waiting_ = 1;  // growth by waiting for the slowest of many nodes
};

}  // namespace shardwise
