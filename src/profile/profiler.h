// Measures what the plans of a model can need on this machine, all ranks busy at once as in
// training.
#pragma once

#include <functional>
#include <string>

#include "cost/measured_table.h"
#include "cost/required_measurements.h"
#include "runtime/communicator.h"

namespace shardwise {

struct ProfileRequest {
  RequiredMeasurements required;
  Precision precision = Precision::kFloat32;
  Seconds budget{50};  // about what measuring may take; every row is measured at least 3 times
  // (done, all, what is measured now); called on rank 0.
  std::function<void(int, int, const std::string&)> progress;
};

// The first op that no kernel runs, so that its time cannot be measured; nullptr if there is none.
const Op* find_unmeasurable(const Graph& graph);

// Called by all ranks of the job; the same table on every rank. A row holds the mean over the
// repetitions of each rank but the slowest tenth, averaged over ranks; `spread` is half the
// interquartile range over the median. Throws RuntimeFailure if a rank is lost.
MeasuredTable measure_table(const ProfileRequest& request, Communicator& communicator);

}  // namespace shardwise
