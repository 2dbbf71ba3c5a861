#include "runtime/thread_communicator.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "core/errors.h"
#include "runtime/pairwise_group.h"
#include "runtime/payload_counter.h"

namespace shardwise {
namespace {

using Clock = std::chrono::steady_clock;

// One posted half of a message.
struct Half {
  const void* source = nullptr;  // of a send
  void* target = nullptr;        // of a receive
  std::int64_t bytes = 0;
  bool done = false;
};

// All ranks' shared state. Everything is under one mutex: simple, and the race detector sees it.
class ThreadWorld {
 public:
  // Where messages of one kind meet: space (a group or the world), sender, receiver, tag.
  struct Address {
    std::uint64_t space = 0;
    int from = 0;
    int to = 0;
    int tag = 0;
    auto operator<=>(const Address&) const = default;
  };

  ThreadWorld(int size, Seconds deadline) : size_(size), deadline_(deadline) {}

  int size() const { return size_; }

  void post(const Address& address, Half& half) {
    const std::lock_guard lock(mutex_);
    Meeting& meeting = meetings_[address];
    std::list<Half*>& others = half.source != nullptr ? meeting.receives : meeting.sends;
    if (others.empty()) {
      (half.source != nullptr ? meeting.sends : meeting.receives).push_back(&half);
      return;
    }
    Half& other = *others.front();
    others.pop_front();
    SHARDWISE_CHECK(other.bytes == half.bytes,
                    fmt::format("message from {} to {}, tag {}: {} bytes posted on one side, {} on "
                                "the other",
                                address.from,
                                address.to,
                                address.tag,
                                half.bytes,
                                other.bytes));
    std::memcpy(half.source != nullptr ? other.target : half.target,
                half.source != nullptr ? half.source : other.source,
                static_cast<std::size_t>(half.bytes));
    half.done = true;
    other.done = true;
    changed_.notify_all();
  }

  void wait(int rank, const Address& address, const Half& half, const char* operation) {
    std::unique_lock lock(mutex_);
    const Clock::time_point start = Clock::now();
    const auto ended = [&] { return half.done || failed_rank_ >= 0; };
    const bool in_time =
        changed_.wait_for(lock, std::chrono::duration<double>(deadline_.count), ended);
    if (half.done) {
      return;
    }
    const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    const int peer = address.from == rank ? address.to : address.from;
    if (!in_time) {
      throw RuntimeFailure(
          fmt::format("rank {}: {}: no answer from rank {} for {:.1f} s; see --timeout",
                      rank,
                      operation,
                      peer,
                      elapsed));
    }
    throw RuntimeFailure(
        fmt::format("rank {}: {} with rank {}: rank {} has ended ({}) after {:.1f} s",
                    rank,
                    operation,
                    peer,
                    failed_rank_,
                    reason_,
                    elapsed));
  }

  // The half is about to be destroyed: nobody may match it any more.
  void withdraw(const Address& address, Half& half) {
    const std::lock_guard lock(mutex_);
    if (!half.done) {
      Meeting& meeting = meetings_[address];
      meeting.sends.remove(&half);
      meeting.receives.remove(&half);
    }
  }

  // The rank that failed first, -1: none.
  int failed_rank() {
    const std::lock_guard lock(mutex_);
    return failed_rank_;
  }

  void fail(int rank, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (failed_rank_ < 0) {
      failed_rank_ = rank;
      reason_ = reason;
    }
    changed_.notify_all();
  }

 private:
  struct Meeting {
    std::list<Half*> sends;
    std::list<Half*> receives;
  };

  int size_;
  Seconds deadline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Address, Meeting> meetings_;
  int failed_rank_ = -1;
  std::string reason_;
};

// A posted half that withdraws itself.
class Posted {
 public:
  Posted(std::shared_ptr<ThreadWorld> world, const ThreadWorld::Address& address, const Half& half)
      : world_(std::move(world)), address_(address), half_(half) {
    world_->post(address_, half_);
  }
  ~Posted() { world_->withdraw(address_, half_); }
  Posted(const Posted&) = delete;
  Posted& operator=(const Posted&) = delete;

  void wait(int rank, const char* operation) { world_->wait(rank, address_, half_, operation); }

 private:
  // Shared: a message that is never waited for may outlive its communicator.
  std::shared_ptr<ThreadWorld> world_;
  ThreadWorld::Address address_;
  Half half_;
};

class ThreadChannel final : public Channel {
 public:
  ThreadChannel(std::shared_ptr<ThreadWorld> world,
                std::uint64_t space,
                std::vector<int> ranks,
                int index)
      : world_(std::move(world)), space_(space), ranks_(std::move(ranks)), index_(index) {}

  int index() const override { return index_; }
  int size() const override { return static_cast<int>(ranks_.size()); }

  void send(int batch, const void* data, std::int64_t bytes, int member, Traffic tag) override {
    post(batch, {space_, index_, member, static_cast<int>(tag)}, {data, nullptr, bytes, false});
  }
  void receive(int batch, void* data, std::int64_t bytes, int member, Traffic tag) override {
    post(batch, {space_, member, index_, static_cast<int>(tag)}, {nullptr, data, bytes, false});
  }
  void finish(int batch, const char* operation) override {
    auto& open = batches_[static_cast<std::size_t>(batch)];
    const std::string what = fmt::format("{} among ranks {}", operation, ranks_);
    for (const std::unique_ptr<Posted>& message : open) {
      message->wait(ranks_[static_cast<std::size_t>(index_)], what.c_str());
    }
    open.clear();
  }

 private:
  void post(int batch, const ThreadWorld::Address& address, const Half& half) {
    batches_[static_cast<std::size_t>(batch)].push_back(
        std::make_unique<Posted>(world_, address, half));
  }

  std::shared_ptr<ThreadWorld> world_;  // shared: groups may outlive the communicator
  std::uint64_t space_;
  std::vector<int> ranks_;
  int index_;
  std::array<std::vector<std::unique_ptr<Posted>>, kBatches> batches_;
};

class ThreadMessage final : public Message {
 public:
  ThreadMessage(std::shared_ptr<ThreadWorld> world,
                const ThreadWorld::Address& address,
                const Half& half)
      : posted(std::move(world), address, half), is_send(half.source != nullptr) {}

  Posted posted;
  bool is_send;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadWorld> world, int rank)
      : world_(std::move(world)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return world_->size(); }

  std::unique_ptr<CommunicationGroup> make_group(const std::vector<int>& ranks) override {
    const std::uint64_t space = ++groups_made_;
    const auto place = std::find(ranks.begin(), ranks.end(), rank_);
    if (place == ranks.end()) {
      return nullptr;
    }
    const int index = static_cast<int>(place - ranks.begin());
    return make_pairwise_group(std::make_unique<ThreadChannel>(world_, space, ranks, index),
                               *payload_);
  }

  std::unique_ptr<Message> post_send(const void* data,
                                     std::int64_t bytes,
                                     int to,
                                     int tag) override {
    payload_->sends += bytes;
    return std::make_unique<ThreadMessage>(
        world_, ThreadWorld::Address{0, rank_, to, tag}, Half{data, nullptr, bytes, false});
  }
  std::unique_ptr<Message> post_receive(void* data,
                                        std::int64_t bytes,
                                        int from,
                                        int tag) override {
    return std::make_unique<ThreadMessage>(
        world_, ThreadWorld::Address{0, from, rank_, tag}, Half{nullptr, data, bytes, false});
  }
  void wait(Message& message) override {
    auto& mine = dynamic_cast<ThreadMessage&>(message);
    mine.posted.wait(rank_, mine.is_send ? "send" : "receive");
  }

  void abandon(const std::string& reason) override { world_->fail(rank_, reason); }

  PayloadCounts payload() const override { return payload_->read(); }

 private:
  std::shared_ptr<ThreadWorld> world_;  // shared with the other ranks
  int rank_;
  std::uint64_t groups_made_ = 0;
  std::unique_ptr<PayloadCounter> payload_ = std::make_unique<PayloadCounter>();
};

}  // namespace

void run_as_threads(int ranks,
                    const std::function<void(Communicator&)>& body,
                    const ThreadRanksOptions& options) {
  const auto world = std::make_shared<ThreadWorld>(ranks, options.deadline);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(ranks));
  const auto run = [&](int rank) {
    try {
      ThreadCommunicator communicator(world, rank);
      body(communicator);
    } catch (const std::exception& error) {
      failures[static_cast<std::size_t>(rank)] = std::current_exception();
      world->fail(rank, error.what());
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back(run, rank);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (const int failed = world->failed_rank(); failed >= 0) {
    if (const std::exception_ptr& failure = failures[static_cast<std::size_t>(failed)]) {
      std::rethrow_exception(failure);
    }
  }
}

}  // namespace shardwise
