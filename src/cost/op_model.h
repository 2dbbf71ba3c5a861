// Time of a kernel from a device's data sheet: the arithmetic and memory side of the modelled table
// (docs/cost_model.md, "Modelled table").
#pragma once

#include <cstdint>
#include <span>

#include "cost/execution.h"
#include "cost/model_constants.h"
#include "cost/op_key.h"
#include "graph/cluster.h"
#include "graph/op_definition.h"

namespace shardwise {

// Refers to its arguments.
class OpModel {
 public:
  OpModel(const DeviceType& device,
          const Execution& execution,
          const ModelConstants& constants,
          Precision precision);

  // One execution on local `sizes` of op.axes.
  Seconds time(const Op& op, std::span<const std::int64_t> sizes, Direction direction) const;

  // Bytes over the memory bandwidth that streams reach.
  double stream(double bytes) const;

  // [rows, sum] x [sum, columns] in the execution's format or, whatever that is, in the compute
  // type:
  //   2 rows sum columns / (peak * share),
  //   share = matrix_share * sustained * sum / (sum + start) * filled tiles
  double product(double rows, double sum, double columns, MatrixFormat format) const;

 private:
  double product_at(double rows, double sum, double columns, double peak) const;
  // `quantise_bytes`: moved for each operand's element that is brought to a small format.
  double linear(double rows,
                double in,
                double out,
                Direction direction,
                MatrixFormat format,
                double quantise_bytes) const;
  double attention(const OpKey& key, double causal_work, Direction direction) const;
  double experts(const OpKey& key, Direction direction) const;
  double convolution(const OpKey& key, Direction direction) const;
  double elementwise(const OpKey& key, double traffic) const;
  bool has_small_formats() const { return device_.peak_fp8.count > 0; }
  double sustained() const;

  const DeviceType& device_;
  const Execution& execution_;
  const ModelConstants& c_;
  const Precision precision_;
  const double peak_;  // of products in the compute type, best measured
};

}  // namespace shardwise
