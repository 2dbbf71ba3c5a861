// Collectives made of messages between pairs of members: one implementation over every channel, so
// that ranks as threads and ranks as processes add in the same order and give the same bits.
//
// Every member talks to every other one directly. An all-gather sends its block to all others; a
// reduce-scatter sends block j to member j, who adds what it gets in rank order; an all-reduce is
// both, in place. Large blocks travel in pieces, and a piece is added while the next is under way.
#pragma once

#include <memory>
#include <vector>

#include "runtime/communicator.h"
#include "runtime/payload_counter.h"

namespace shardwise {

// What a message belongs to, and its tag on the wire (an observer from outside counts by it).
// A member keeps its own block: one in n, but of kVariableAllToAll as many bytes as
// PayloadCounts::all_to_all_kept says.
enum class Traffic {
  kControl = 1,
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kAllToAll,
  kVariableAllToAll,
};

// Messages between the members of one group. Messages between two members with the same tag arrive
// in the order in which they were started.
class Channel {
 public:
  // Messages started together; at most this many batches are open at a time.
  static constexpr int kBatches = 2;

  virtual ~Channel() = default;
  virtual int index() const = 0;
  virtual int size() const = 0;
  // Starts a message of `bytes` > 0; its buffer is in use until finish(batch).
  virtual void send(int batch, const void* data, std::int64_t bytes, int member, Traffic tag) = 0;
  virtual void receive(int batch, void* data, std::int64_t bytes, int member, Traffic tag) = 0;
  // Returns when all messages of the batch are done. Throws RuntimeFailure that names `operation`
  // when a member is dead or the deadline passes.
  virtual void finish(int batch, const char* operation) = 0;
};

// `payload` outlives the group.
std::unique_ptr<CommunicationGroup> make_pairwise_group(std::unique_ptr<Channel> channel,
                                                        PayloadCounter& payload);

}  // namespace shardwise
