// Times from data sheets: peak rates, bandwidths and simple efficiencies with their sources
// (docs/cost_model.md, "Modelled table"). Good for presets of machines that nobody profiled.
#pragma once

#include <string>

#include "cost/collective_model.h"
#include "cost/cost_table.h"
#include "cost/model_constants.h"

namespace shardwise {

class ModelledTable final : public CostTable {
 public:
  // Copies the cluster. Throws InputError if a device type lacks a rate or a level its bandwidth.
  explicit ModelledTable(Cluster cluster,
                         const Execution& execution = {},
                         const ModelConstants& constants = {});

  // Other constants from here on; not while another thread asks.
  void set_constants(const ModelConstants& constants);

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
  const Execution& execution() const override { return execution_; }

 private:
  const DeviceType& device(int device_type) const;

  Cluster cluster_;
  CollectiveModel collectives_;
  Execution execution_;
  ModelConstants constants_;
  double waiting_ = 1;  // growth of every time by waiting for the slowest of many nodes
};

}  // namespace shardwise
