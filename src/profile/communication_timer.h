// Times collectives and messages between the ranks of a job, all groups of a placement at once.
#pragma once

#include <functional>
#include <vector>

#include "cost/measured_table.h"
#include "cost/required_measurements.h"
#include "runtime/communicator.h"

namespace shardwise {

// Every function is called by all ranks of the job and returns equal rows on all of them.
// `everyone` is a group of all ranks.

// One row a payload of a ladder between the smallest and largest that plans need. Timed as training
// meets it: all ranks compute first, and each measures from its own arrival to the end. The mean
// over ranks holds the wait for those that were slower by chance, without which plans with many
// collectives look better than they are.
std::vector<MeasuredTable::CollectiveRow> measure_collective(const RequiredCollective& required,
                                                             Communicator& communicator,
                                                             CommunicationGroup& everyone,
                                                             Seconds budget);

// Ranks 2i send to 2i + 1, `required.concurrent` pairs at once.
std::vector<MeasuredTable::TransferRow> measure_transfer(const RequiredTransfer& required,
                                                         Communicator& communicator,
                                                         CommunicationGroup& everyone,
                                                         Seconds budget);

// Mean over all ranks of each rank's summary of its own samples. `samples` may be empty on ranks
// that took no part (at least one rank has some). `counted`: as of summarize (samples.h).
struct JobSummary {
  Seconds time{0};
  double spread = 0;
};
JobSummary summarize_over_ranks(const std::vector<double>& samples,
                                double counted,
                                CommunicationGroup& everyone);

}  // namespace shardwise
