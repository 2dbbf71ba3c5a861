// Times of ops, collectives, transfers and updates for one cluster: the one interface behind which
// measured tables and models stand. Thread-safe; same question, same answer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/units.h"
#include "cost/execution.h"
#include "graph/cluster.h"
#include "graph/op_definition.h"
#include "graph/plan.h"

namespace shardwise {

// A time and whether the table had to leave its measured range for it.
struct Estimate {
  Seconds time{0};
  bool extrapolated = false;
};

// Where the ranks of a collective sit. All groups of the same kind in a stage run at once.
struct GroupPlacement {
  int ranks = 1;
  int level = 0;           // lowest network level that holds the whole group
  int ranks_per_node = 1;  // of this group on one part of level 0
  int concurrent = 1;      // groups that run at the same time on one part of level 0
  int device_type = 0;

  auto operator<=>(const GroupPlacement&) const = default;
};

// Placement of the groups along the mesh axes in `axes` (bit m = mesh axis m) of a stage; the worst
// group of the stage (highest level, fewest ranks per node).
GroupPlacement placement_of(const Cluster& cluster,
                            const std::vector<int>& devices,
                            const Mesh& mesh,
                            unsigned axes);

class CostTable {
 public:
  virtual ~CostTable() = default;

  // One execution of an op's kernel on local sizes of its loop axes (padding included).
  virtual Estimate op_time(const Op& op,
                           std::span<const std::int64_t> sizes,
                           Direction direction,
                           Precision precision,
                           int device_type) const = 0;
  // A collective with `payload` by the convention of graph/layout.h (collective_payload).
  virtual Estimate collective_time(CollectiveKind kind,
                                   Bytes payload,
                                   Precision precision,
                                   const GroupPlacement& placement) const = 0;
  // Point-to-point message across `level`; `concurrent` such messages share a node's link.
  virtual Estimate transfer_time(Bytes size, int level, int concurrent) const = 0;
  // AdamW on `elements` values, global norm and clipping included.
  virtual Estimate optimizer_time(std::int64_t elements,
                                  Precision precision,
                                  int device_type) const = 0;
  // gradient += gradient of a value of `size` bytes, and other elementwise passes that are no op.
  virtual Estimate accumulate_time(Bytes size, int device_type) const = 0;
  // phi in [0, 1]: share of an op's own backward that hides the reduction of its gradients.
  virtual double overlap_fraction(int device_type) const = 0;
  // Paid once a step: data loading, loss and norm reductions, launch.
  virtual Estimate step_overhead(int ranks) const = 0;
  // Fixed memory of a training process: code, allocator, communication buffers.
  virtual Bytes process_memory() const = 0;
  // "measured on ..., 2026-11-22" or "modelled from data sheets: ..."
  virtual std::string provenance() const = 0;
  // How the software runs what is priced here.
  virtual const Execution& execution() const {
    static const Execution kOwn;
    return kOwn;
  }
};

}  // namespace shardwise
