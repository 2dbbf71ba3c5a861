// Ranks as processes that talk through MPI.
//
// Every group is an MPI communicator of its own. What an observer sees through MPI's profiling
// interface (PMPI): MPI_Isend and MPI_Irecv of bytes, on communicators whose names say what they
// carry:
//   "shardwise group"      collectives; the tag is a Traffic (runtime/pairwise_group.h). A member
//                          sends (n - 1) / n of its payload over the wire, n = group size: payload
//                          = bytes sent * n / (n - 1). kControl is no payload
//   "shardwise messages"   post_send: stage boundaries and tied parameters, bytes = payload
//   "shardwise heartbeat"  no payload
#pragma once

#include <memory>
#include <string>

#include "core/units.h"
#include "runtime/activity.h"
#include "runtime/communicator.h"

namespace shardwise {

struct MpiOptions {
  // Longest wait for another rank in one call.
  Seconds timeout{600};
  // A rank that gives no sign of life for so long is lost.
  Seconds heartbeat_limit{5};
  // What this rank is doing, for messages; optional, outlives the job.
  const Activity* activity = nullptr;
  // Ranks that the launcher speaks of (runtime/launcher.h), 0: unknown. Some, such as torchrun,
  // start processes that MPI does not join to a job.
  int expected_ranks = 0;
};

// Throws InputError if MPI is not what the options expect.
//
// Initialises MPI with MPI_THREAD_MULTIPLE, and a heartbeat thread that tells a slow rank from a
// lost one. One for each process. The destructor finalises MPI after all ranks have come; call it
// only after success. After a failure: leave_failed_job().
//
// A lost rank (killed, stopped): the other ranks' next (or current) call throws RuntimeFailure that
// names rank, operation and the lost rank; a rank that does not communicate within a second prints
// the same itself and ends with exit code 4. SIGTERM (mpirun's way to end a job) counts as a loss.
class MpiJob {
 public:
  explicit MpiJob(const MpiOptions& options);
  ~MpiJob();
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;

  Communicator& communicator();

  struct State;

 private:
  std::unique_ptr<State> state_;
};

// Prints the line `message` to stderr and ends the process with `exit_code`, without MPI_Finalize,
// which would wait for lost ranks. Waits a second first, so that all ranks tell their side before
// the launcher ends them.
[[noreturn]] void leave_failed_job(const std::string& message, int exit_code);

}  // namespace shardwise
