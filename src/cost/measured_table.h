// Times measured on a machine, and the CostTable that answers from them: an exact row, else
// interpolated in log size within a family of rows, beyond its range scaled and flagged.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cost/cost_table.h"
#include "cost/op_key.h"
#include "cost/size_curve.h"

namespace shardwise {

// Plain data: what a profile writes and io reads. `spread`: half the interquartile range of the
// repetitions / median, for people.
struct MeasuredTable {
  struct OpRow {
    OpKey key;
    Direction direction = Direction::kForward;
    int device_type = 0;
    Seconds time{0};
    double spread = 0;
    bool operator==(const OpRow&) const = default;
  };
  // All groups of the placement at once. Payload by the convention of graph/layout.h. All-gather
  // and all-to-all move bytes only: their rows carry kFloat32 and serve both precisions.
  struct CollectiveRow {
    CollectiveKind kind = CollectiveKind::kAllReduce;
    Precision precision = Precision::kFloat32;
    GroupPlacement placement;
    Bytes payload{0};
    Seconds time{0};
    double spread = 0;
    bool operator==(const CollectiveRow&) const = default;
  };
  struct TransferRow {
    int level = 0;
    int concurrent = 1;
    Bytes size{0};
    Seconds time{0};
    double spread = 0;
    bool operator==(const TransferRow&) const = default;
  };
  struct OptimizerRow {
    std::int64_t elements = 0;
    Precision precision = Precision::kFloat32;
    int device_type = 0;
    Seconds time{0};
    double spread = 0;
    bool operator==(const OptimizerRow&) const = default;
  };
  struct AccumulateRow {
    Bytes size{0};
    int device_type = 0;
    Seconds time{0};
    double spread = 0;
    bool operator==(const AccumulateRow&) const = default;
  };
  struct StepOverheadRow {
    int ranks = 1;
    Seconds time{0};
    bool operator==(const StepOverheadRow&) const = default;
  };

  std::vector<OpRow> ops;
  std::vector<CollectiveRow> collectives;
  std::vector<TransferRow> transfers;
  std::vector<OptimizerRow> optimizer;
  std::vector<AccumulateRow> accumulate;
  std::vector<StepOverheadRow> step_overhead;
  std::vector<double> overlap_fraction;  // by device type
  Bytes process_memory{0};

  std::string machine;                                        // "Intel Xeon ..., 2 cores"
  std::string date;                                           // "2026-11-22"
  std::vector<std::pair<std::string, std::string>> versions;  // {"torch", "2.13.0"}, ...

  bool operator==(const MeasuredTable&) const = default;
};

// Answers from the rows of `table`.
//
// Between and beyond the sizes of a family as read_curve says; all sizes positive. A placement or a
// message concurrency that was not measured is answered by the nearest one with the same number of
// ranks and level, flagged. Zero size: no time. Throws InputError if a whole family is missing:
// names it and says "run shardwise profile".
class MeasuredCostTable final : public CostTable {
 public:
  explicit MeasuredCostTable(const MeasuredTable& table);

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

 private:
  using Curve = SizeCurve;                             // of one family
  using OpFamily = std::tuple<OpKey, Direction, int>;  // key with sizes[0] = 0
  using CollectiveFamily = std::tuple<CollectiveKind, Precision, GroupPlacement>;

  const Curve* find_placement(CollectiveKind kind,
                              Precision precision,
                              const GroupPlacement& placement,
                              bool& exact) const;

  std::map<OpFamily, Curve> ops_;
  std::map<CollectiveFamily, Curve> collectives_;
  std::map<std::pair<int, int>, Curve> transfers_;  // level, concurrent
  std::map<std::pair<Precision, int>, Curve> optimizer_;
  std::map<int, Curve> accumulate_;
  Curve step_overhead_;  // over ranks
  std::vector<double> overlap_fraction_;
  Bytes process_memory_{0};
  std::string provenance_;
};

}  // namespace shardwise
