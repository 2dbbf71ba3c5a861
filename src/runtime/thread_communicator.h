// Ranks as threads of one process: for tests, for the race detector and for runs of one rank.
// Messages are copied from buffer to buffer once both sides have posted (rendezvous).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/units.h"
#include "runtime/communicator.h"

namespace shardwise {

struct ThreadRanksOptions {
  // Longest wait for another rank in one call.
  Seconds deadline{60};
};

// Runs `body(communicator)` on `ranks` threads and returns when all have ended. If a rank throws,
// the others get RuntimeFailure from the communication they wait in; the exception of the rank that
// threw first is thrown on.
void run_as_threads(int ranks,
                    const std::function<void(Communicator&)>& body,
                    const ThreadRanksOptions& options = {});

}  // namespace shardwise
