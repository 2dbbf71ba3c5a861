// Ranks that talk: groups, collectives, messages. One interface over MPI, over threads of one
// process (tests, race detector) and, when built with it, NCCL.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/units.h"

namespace shardwise {

enum class WireType { kFloat32, kBFloat16, kFloat64, kInt64, kByte };
std::int64_t wire_bytes(WireType type);

// A message under way; wait() through Communicator::wait.
class Message {
 public:
  virtual ~Message() = default;
};

// One tensor of a collective over several: what all_gather or reduce_scatter says of the buffers of
// one, `count` elements a block.
struct CollectivePart {
  const void* send = nullptr;
  void* receive = nullptr;
  std::int64_t count = 0;
};

// Ordered subset of the ranks. Collectives on one group are called by its members in the same
// order; a group used by the communication thread must not be used by another thread at the same
// time (make_group twice for that).
//
// Reductions add in fp32 (float64 for float64) in rank order 0, 1, 2, ...: equal bits on every rank
// and in every run. Buffers are contiguous; `count` is in elements. Every call ends with
// RuntimeFailure (rank, operation, peers, elapsed) when a member is dead, or has not come within
// the deadline.
class CommunicationGroup {
 public:
  virtual ~CommunicationGroup() = default;
  virtual int index() const = 0;  // of this rank in the group
  virtual int size() const = 0;

  // receive[i * count ...] = member i's send, for each part. receive holds size() * count; `send`
  // may be block index() of it.
  virtual void all_gather(std::span<const CollectivePart> parts, WireType type) = 0;
  void all_gather(const void* send, void* receive, std::int64_t count, WireType type) {
    const CollectivePart part{send, receive, count};
    all_gather({&part, 1}, type);
  }
  // receive = sum over members of their send[index() * count ...], for each part. send holds
  // size() * count; `receive` may be block index() of it.
  virtual void reduce_scatter(std::span<const CollectivePart> parts, WireType type) = 0;
  void reduce_scatter(const void* send, void* receive, std::int64_t count, WireType type) {
    const CollectivePart part{send, receive, count};
    reduce_scatter({&part, 1}, type);
  }
  // data = sum over members. Done as reduce-scatter + all-gather of ceil(count / size()) each.
  virtual void all_reduce(void* data, std::int64_t count, WireType type) = 0;
  // Block j of send goes to member j; block i of receive comes from member i; `count` per block.
  virtual void all_to_all(const void* send, void* receive, std::int64_t count, WireType type) = 0;
  // The same with own counts per member (elements); blocks are packed in member order.
  virtual void all_to_all_variable(const void* send,
                                   std::span<const std::int64_t> send_counts,
                                   void* receive,
                                   std::span<const std::int64_t> receive_counts,
                                   WireType type) = 0;
  // Control traffic, left out of payload accounts: equal results on all members.
  virtual void control_sum(std::span<double> values) = 0;
  virtual void control_max(std::span<double> values) = 0;
  virtual void control_exchange(std::span<const std::int64_t> send,
                                std::span<std::int64_t> receive) = 0;  // one value per member
  virtual void barrier() = 0;
};

// Payload that this rank handed to data collectives and sends since the start (convention of
// graph/layout.h; control traffic apart).
struct PayloadCounts {
  std::int64_t all_gather = 0;
  std::int64_t reduce_scatter = 0;
  std::int64_t all_reduce = 0;
  std::int64_t all_to_all = 0;
  // Of all_to_all, what exchanges of unequal blocks left on this rank: routing decides how much.
  std::int64_t all_to_all_kept = 0;
  std::int64_t sends = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Called by all ranks of the job in the same order with the same ranks (also by those that are
  // not in it, which get nullptr).
  virtual std::unique_ptr<CommunicationGroup> make_group(const std::vector<int>& ranks) = 0;

  // Buffers stay untouched until wait(). Rendezvous semantics may apply: never wait for a send
  // before the receiver can have posted.
  virtual std::unique_ptr<Message> post_send(const void* data,
                                             std::int64_t bytes,
                                             int to,
                                             int tag) = 0;
  virtual std::unique_ptr<Message> post_receive(void* data,
                                                std::int64_t bytes,
                                                int from,
                                                int tag) = 0;
  virtual void wait(Message& message) = 0;

  // This rank gives up: what it or its other threads wait for, now or later, ends with
  // RuntimeFailure. Thread-safe.
  virtual void abandon(const std::string& reason) = 0;

  virtual PayloadCounts payload() const = 0;
};

}  // namespace shardwise
