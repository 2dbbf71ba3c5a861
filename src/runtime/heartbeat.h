// Tells a lost rank from a slow one: a thread of each rank sends and expects signs of life. A rank
// deep in a computation still beats; a stopped or killed process does not.
#pragma once

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/units.h"
#include "runtime/activity.h"

namespace shardwise {

// Requires that SIGTERM is blocked in all threads: this one takes it.
class Heartbeat {
 public:
  // `world`: a communicator of its own, all ranks. Up to 16 ranks watch each other; of more, each
  // watches those at distances 1, 2, 4, ... Collective.
  Heartbeat(MPI_Comm world, Seconds limit, const Activity* activity);
  // After a farewell of all watched ranks (or two seconds). Call after a barrier of all ranks.
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  // Whether a rank is lost; cheap, for waiting loops.
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  // "rank 3 (process 712) is gone". Once asked, the caller is the one to report it: the heartbeat
  // does not end the process.
  std::string take_failure();

 private:
  struct Peer;

  void run();
  void beat();
  void look_at_peers();
  bool is_process_gone(const Peer& peer) const;
  void declare_lost(const std::string& reason);
  void end_if_unreported();
  void say_farewell();

  MPI_Comm world_;
  int rank_ = 0;
  Seconds limit_;
  const Activity* activity_;
  std::vector<Peer> peers_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> stop_{false};
  bool is_terminating_ = false;
  std::mutex mutex_;  // reason_, is_reported_
  std::string reason_;
  bool is_reported_ = false;
  std::thread thread_;
};

}  // namespace shardwise
