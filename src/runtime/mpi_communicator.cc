#include "runtime/mpi_communicator.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <utility>

#include "core/errors.h"
#include "runtime/heartbeat.h"
#include "runtime/pairwise_group.h"
#include "runtime/payload_counter.h"

namespace shardwise {
namespace {

using Clock = std::chrono::steady_clock;

// MPI counts in int.
constexpr std::int64_t kLongestMessage = std::int64_t{1} << 30;

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) {
    return;
  }
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw RuntimeFailure(
      fmt::format("{}: {}", call, std::string(text.data(), static_cast<std::size_t>(length))));
}

// Waits between two looks at a message: first not at all, then by giving the core away, then by
// sleeping, so that a waiting thread leaves its core to the thread that computes.
class Backoff {
 public:
  void pause() {
    ++looks_;
    if (looks_ < kSpins) {
      return;
    }
    if (looks_ < kYields) {
      ::sched_yield();
      return;
    }
    thread_local const bool is_prompt = ::prctl(PR_SET_TIMERSLACK, 1000UL) == 0;
    static_cast<void>(is_prompt);
    ::usleep(looks_ < kShortSleeps ? 5 : 50);
  }
  // Whether it is time for the costlier checks (deadline, lost ranks).
  bool is_patience_over() const { return looks_ >= kYields; }

 private:
  static constexpr int kSpins = 50;
  static constexpr int kYields = 500;
  static constexpr int kShortSleeps = 1000;
  int looks_ = 0;
};

}  // namespace

struct MpiJob::State {
  MPI_Comm messages = MPI_COMM_NULL;
  MPI_Comm pulse = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  MpiOptions options;
  std::unique_ptr<Heartbeat> heartbeat;
  std::atomic<bool> is_abandoned{false};
  std::unique_ptr<Communicator> communicator;

  // Returns when all requests are done; `peers` for the message of a failure.
  void finish(std::vector<MPI_Request>& requests,
              const char* operation,
              const std::vector<int>& peers) const;
};

void MpiJob::State::finish(std::vector<MPI_Request>& requests,
                           const char* operation,
                           const std::vector<int>& peers) const {
  Backoff backoff;
  const Clock::time_point start = Clock::now();
  while (true) {
    int is_done = 0;
    const int code = MPI_Testall(
        static_cast<int>(requests.size()), requests.data(), &is_done, MPI_STATUSES_IGNORE);
    // An error of MPI itself mostly is a lost rank: the heartbeat knows which.
    if (code == MPI_SUCCESS && is_done != 0) {
      requests.clear();
      return;
    }
    backoff.pause();
    if (code == MPI_SUCCESS && !backoff.is_patience_over()) {
      continue;
    }
    const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    const auto fail = [&](const std::string& reason) {
      const std::string during =
          options.activity != nullptr ? " (" + options.activity->describe() + ")" : "";
      throw RuntimeFailure(fmt::format("rank {}: {} among ranks {}{}: {}; waited {:.1f} s",
                                       rank,
                                       operation,
                                       peers,
                                       during,
                                       reason,
                                       elapsed));
    };
    if (is_abandoned.load()) {
      fail("this rank has given up");
    }
    if (heartbeat->failed()) {
      fail(heartbeat->take_failure());
    }
    if (elapsed > options.timeout.count) {
      fail(fmt::format("no answer, though all ranks are alive (--timeout {:.0f} s)",
                       options.timeout.count));
    }
  }
}

namespace {

class MpiChannel final : public Channel {
 public:
  MpiChannel(const MpiJob::State& job, MPI_Comm comm, std::vector<int> ranks)
      : job_(job), comm_(comm), ranks_(std::move(ranks)) {
    MPI_Comm_rank(comm_, &index_);
  }
  ~MpiChannel() override {
    // After a failure MPI may be in any state; leave_failed_job drops it as a whole.
    if (std::uncaught_exceptions() == 0) {
      MPI_Comm_free(&comm_);
    }
  }

  int index() const override { return index_; }
  int size() const override { return static_cast<int>(ranks_.size()); }

  void send(int batch, const void* data, std::int64_t bytes, int member, Traffic tag) override {
    check_mpi(MPI_Isend(data,
                        static_cast<int>(bytes),
                        MPI_BYTE,
                        member,
                        static_cast<int>(tag),
                        comm_,
                        &add_request(batch)),
              "MPI_Isend");
  }
  void receive(int batch, void* data, std::int64_t bytes, int member, Traffic tag) override {
    check_mpi(MPI_Irecv(data,
                        static_cast<int>(bytes),
                        MPI_BYTE,
                        member,
                        static_cast<int>(tag),
                        comm_,
                        &add_request(batch)),
              "MPI_Irecv");
  }
  void finish(int batch, const char* operation) override {
    auto& requests = requests_[static_cast<std::size_t>(batch)];
    if (!requests.empty()) {
      job_.finish(requests, operation, ranks_);
    }
  }

 private:
  MPI_Request& add_request(int batch) {
    return requests_[static_cast<std::size_t>(batch)].emplace_back(MPI_REQUEST_NULL);
  }

  const MpiJob::State& job_;
  MPI_Comm comm_;
  std::vector<int> ranks_;  // global
  int index_ = 0;
  std::array<std::vector<MPI_Request>, kBatches> requests_;
};

class MpiMessage final : public Message {
 public:
  std::vector<MPI_Request> requests;
  int peer = 0;
  bool is_send = false;
};

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(MpiJob::State& job) : job_(job) {}

  int rank() const override { return job_.rank; }
  int size() const override { return job_.size; }

  std::unique_ptr<CommunicationGroup> make_group(const std::vector<int>& ranks) override {
    MPI_Group world = MPI_GROUP_NULL;
    MPI_Group members = MPI_GROUP_NULL;
    MPI_Comm comm = MPI_COMM_NULL;
    check_mpi(MPI_Comm_group(job_.messages, &world), "MPI_Comm_group");
    check_mpi(MPI_Group_incl(world, static_cast<int>(ranks.size()), ranks.data(), &members),
              "MPI_Group_incl");
    check_mpi(MPI_Comm_create(job_.messages, members, &comm), "MPI_Comm_create");
    MPI_Group_free(&members);
    MPI_Group_free(&world);
    if (comm == MPI_COMM_NULL) {
      return nullptr;
    }
    MPI_Comm_set_name(comm, "shardwise group");
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    return make_pairwise_group(std::make_unique<MpiChannel>(job_, comm, ranks), payload_);
  }

  std::unique_ptr<Message> post_send(const void* data,
                                     std::int64_t bytes,
                                     int to,
                                     int tag) override {
    payload_.sends += bytes;
    auto message = std::make_unique<MpiMessage>();
    message->peer = to;
    message->is_send = true;
    const auto* begin = static_cast<const unsigned char*>(data);
    for (std::int64_t sent = 0; sent < bytes; sent += kLongestMessage) {
      check_mpi(MPI_Isend(begin + sent,
                          static_cast<int>(std::min(kLongestMessage, bytes - sent)),
                          MPI_BYTE,
                          to,
                          tag,
                          job_.messages,
                          &message->requests.emplace_back(MPI_REQUEST_NULL)),
                "MPI_Isend");
    }
    return message;
  }

  std::unique_ptr<Message> post_receive(void* data,
                                        std::int64_t bytes,
                                        int from,
                                        int tag) override {
    auto message = std::make_unique<MpiMessage>();
    message->peer = from;
    auto* begin = static_cast<unsigned char*>(data);
    for (std::int64_t received = 0; received < bytes; received += kLongestMessage) {
      check_mpi(MPI_Irecv(begin + received,
                          static_cast<int>(std::min(kLongestMessage, bytes - received)),
                          MPI_BYTE,
                          from,
                          tag,
                          job_.messages,
                          &message->requests.emplace_back(MPI_REQUEST_NULL)),
                "MPI_Irecv");
    }
    return message;
  }

  void wait(Message& message) override {
    auto& mine = dynamic_cast<MpiMessage&>(message);
    if (!mine.requests.empty()) {
      job_.finish(mine.requests, mine.is_send ? "send" : "receive", {job_.rank, mine.peer});
    }
  }

  void abandon(const std::string&) override { job_.is_abandoned.store(true); }

  PayloadCounts payload() const override { return payload_.read(); }

 private:
  MpiJob::State& job_;
  PayloadCounter payload_;
};

MPI_Comm duplicate_world(const char* name) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  MPI_Comm_set_name(comm, name);
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  return comm;
}

}  // namespace

MpiJob::MpiJob(const MpiOptions& options) : state_(std::make_unique<State>()) {
  sigset_t terminate;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &terminate, nullptr);  // the heartbeat takes it

  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_MULTIPLE) {
    throw InputError("MPI",
                     "expected a library with MPI_THREAD_MULTIPLE, this one has less; "
                     "install Open MPI 5 (scripts/setup.sh)");
  }
  state_->options = options;
  state_->messages = duplicate_world("shardwise messages");
  state_->pulse = duplicate_world("shardwise heartbeat");
  MPI_Comm_rank(MPI_COMM_WORLD, &state_->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &state_->size);
  if (options.expected_ranks > 0 && options.expected_ranks != state_->size) {
    const int found = state_->size;
    MPI_Finalize();
    throw InputError("MPI",
                     fmt::format("expected {} ranks, as the launcher says, found {}: it does not "
                                 "start MPI jobs; use mpirun, or srun --mpi=pmix",
                                 options.expected_ranks,
                                 found));
  }
  state_->heartbeat =
      std::make_unique<Heartbeat>(state_->pulse, options.heartbeat_limit, options.activity);
  state_->communicator = std::make_unique<MpiCommunicator>(*state_);
}

MpiJob::~MpiJob() {
  if (std::uncaught_exceptions() > 0) {
    // A failure is on its way to leave_failed_job, which drops MPI as a whole: waiting for lost
    // ranks here would hide it. The heartbeat goes on meanwhile.
    static_cast<void>(state_.release());
    return;
  }
  try {
    std::vector<MPI_Request> requests(1, MPI_REQUEST_NULL);
    MPI_Ibarrier(state_->messages, &requests[0]);
    std::vector<int> everyone(static_cast<std::size_t>(state_->size));
    std::iota(everyone.begin(), everyone.end(), 0);
    state_->finish(requests, "end of the job", everyone);
  } catch (const RuntimeFailure& failure) {
    leave_failed_job(fmt::format("shardwise: {}", failure.what()), 4);
  }
  state_->communicator.reset();
  state_->heartbeat.reset();
  MPI_Comm_free(&state_->messages);
  MPI_Comm_free(&state_->pulse);
  MPI_Finalize();
}

Communicator& MpiJob::communicator() { return *state_->communicator; }

void leave_failed_job(const std::string& message, int exit_code) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::fflush(stdout);
  std::fflush(stderr);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  ::_exit(exit_code);
}

}  // namespace shardwise
