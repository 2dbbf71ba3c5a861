#include "runtime/heartbeat.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>

#include "core/errors.h"

namespace shardwise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kFarewell = -1;
constexpr int kTag = 1;
constexpr std::chrono::milliseconds kInterval(200);
// How long the compute thread has to report a loss itself; mpirun kills a second after SIGTERM.
constexpr std::chrono::milliseconds kReportTime(300);
constexpr int kWatchAllUpTo = 16;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What makes a process id comparable between two ranks: host and process-id namespace.
struct Identity {
  std::array<char, 64> host{};
  std::int64_t pid_space = 0;
  std::int64_t pid = 0;
};

Identity own_identity() {
  Identity identity;
  ::gethostname(identity.host.data(), identity.host.size() - 1);
  struct stat info {};
  if (::stat("/proc/self/ns/pid", &info) == 0) {
    identity.pid_space = static_cast<std::int64_t>(info.st_ino);
  }
  identity.pid = ::getpid();
  return identity;
}

std::vector<int> watched_ranks(int rank, int size) {
  std::vector<int> watched;
  if (size <= kWatchAllUpTo) {
    for (int other = 0; other < size; ++other) {
      if (other != rank) {
        watched.push_back(other);
      }
    }
    return watched;
  }
  // Symmetric: who watches is watched, so every message has a receiver.
  for (int distance = 1; distance < size; distance *= 2) {
    for (const int other : {(rank + distance) % size, (rank + size - distance) % size}) {
      if (other != rank && std::find(watched.begin(), watched.end(), other) == watched.end()) {
        watched.push_back(other);
      }
    }
  }
  return watched;
}

}  // namespace

struct Heartbeat::Peer {
  int rank = 0;
  std::int64_t pid = 0;  // 0: on another machine
  Clock::time_point last_seen = Clock::now();
  bool has_left = false;
  std::int64_t incoming = 0;
  std::int64_t outgoing = 0;
  MPI_Request receive = MPI_REQUEST_NULL;
  MPI_Request send = MPI_REQUEST_NULL;
};

Heartbeat::Heartbeat(MPI_Comm world, Seconds limit, const Activity* activity)
    : world_(world), limit_(limit), activity_(activity) {
  int size = 1;
  MPI_Comm_rank(world_, &rank_);
  MPI_Comm_size(world_, &size);
  const Identity own = own_identity();
  std::vector<Identity> all(static_cast<std::size_t>(size));
  MPI_Allgather(&own, sizeof own, MPI_BYTE, all.data(), sizeof own, MPI_BYTE, world_);
  for (const int other : watched_ranks(rank_, size)) {
    const Identity& identity = all[static_cast<std::size_t>(other)];
    Peer peer;
    peer.rank = other;
    if (identity.host == own.host && identity.pid_space == own.pid_space) {
      peer.pid = identity.pid;
    }
    peers_.push_back(peer);
  }
  for (Peer& peer : peers_) {
    MPI_Irecv(&peer.incoming, 1, MPI_INT64_T, peer.rank, kTag, world_, &peer.receive);
  }
  thread_ = std::thread([this] { run(); });
}

Heartbeat::~Heartbeat() {
  stop_.store(true);
  thread_.join();
}

std::string Heartbeat::take_failure() {
  const std::lock_guard lock(mutex_);
  is_reported_ = true;
  return reason_;
}

void Heartbeat::run() {
  sigset_t terminate;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  const timespec interval = {0, std::chrono::nanoseconds(kInterval).count()};
  while (!stop_.load()) {
    if (sigtimedwait(&terminate, nullptr, &interval) == SIGTERM) {
      is_terminating_ = true;
    }
    beat();
    look_at_peers();
    if (is_terminating_ && !failed()) {
      declare_lost("the launcher ended the job (SIGTERM)");
    }
    if (failed()) {
      return end_if_unreported();
    }
  }
  say_farewell();
}

void Heartbeat::beat() {
  for (Peer& peer : peers_) {
    int is_done = 1;
    if (peer.send != MPI_REQUEST_NULL) {
      MPI_Test(&peer.send, &is_done, MPI_STATUS_IGNORE);
    }
    if (is_done != 0 && !peer.has_left) {
      MPI_Isend(&peer.outgoing, 1, MPI_INT64_T, peer.rank, kTag, world_, &peer.send);
    }
  }
}

void Heartbeat::look_at_peers() {
  for (Peer& peer : peers_) {
    int is_done = 1;
    while (!peer.has_left && is_done != 0) {
      MPI_Test(&peer.receive, &is_done, MPI_STATUS_IGNORE);
      if (is_done != 0) {
        peer.last_seen = Clock::now();
        peer.has_left = peer.incoming == kFarewell;
        if (!peer.has_left) {
          MPI_Irecv(&peer.incoming, 1, MPI_INT64_T, peer.rank, kTag, world_, &peer.receive);
        }
      }
    }
    if (peer.has_left || failed()) {
      continue;
    }
    if (is_process_gone(peer)) {
      declare_lost(fmt::format("rank {} (process {}) is gone", peer.rank, peer.pid));
    } else if (seconds_since(peer.last_seen) > limit_.count) {
      declare_lost(
          fmt::format("rank {} gives no sign of life for {:.0f} s (stopped, or its "
                      "machine is lost)",
                      peer.rank,
                      seconds_since(peer.last_seen)));
    }
  }
}

bool Heartbeat::is_process_gone(const Peer& peer) const {
  if (peer.pid == 0) {
    return false;
  }
  std::ifstream stat(fmt::format("/proc/{}/stat", peer.pid));
  std::string text;
  if (!std::getline(stat, text)) {
    return true;
  }
  // "pid (name) state ...": the name may hold anything, so the state follows the last bracket.
  const std::size_t bracket = text.rfind(')');
  const char state = bracket + 2 < text.size() ? text[bracket + 2] : '?';
  return state == 'Z' || state == 'X';
}

void Heartbeat::declare_lost(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  reason_ = reason;
  failed_.store(true, std::memory_order_release);
}

void Heartbeat::end_if_unreported() {
  const Clock::time_point start = Clock::now();

  while (Clock::now() - start < kReportTime && !stop_.load()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const std::lock_guard lock(mutex_);
    if (is_reported_) {
      return;
    }
  }
  const std::string activity = activity_ != nullptr ? activity_->describe() : "computing";
  std::fprintf(
      stderr, "shardwise: rank %d: %s: %s\n", rank_, activity.c_str(), take_failure().c_str());
  std::fflush(stderr);
  ::_exit(4);
}

void Heartbeat::say_farewell() {
  const Clock::time_point start = Clock::now();
  for (Peer& peer : peers_) {
    if (peer.send != MPI_REQUEST_NULL) {
      MPI_Wait(&peer.send, MPI_STATUS_IGNORE);
    }
    peer.outgoing = kFarewell;
    MPI_Isend(&peer.outgoing, 1, MPI_INT64_T, peer.rank, kTag, world_, &peer.send);
  }
  bool all_left = false;
  while (!all_left && seconds_since(start) < 2) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    all_left = true;
    for (Peer& peer : peers_) {
      int is_done = 1;
      while (!peer.has_left && is_done != 0) {
        MPI_Test(&peer.receive, &is_done, MPI_STATUS_IGNORE);
        if (is_done != 0) {
          peer.has_left = peer.incoming == kFarewell;
          if (!peer.has_left) {
            MPI_Irecv(&peer.incoming, 1, MPI_INT64_T, peer.rank, kTag, world_, &peer.receive);
          }
        }
      }
      int is_sent = 0;
      MPI_Test(&peer.send, &is_sent, MPI_STATUS_IGNORE);
      all_left = all_left && peer.has_left && is_sent != 0;
    }
  }
}

}  // namespace shardwise
