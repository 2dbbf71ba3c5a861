// Messages on their way: one at a time out of a device and into it, and those of one node share its
// links. Internal to simulate.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "simulate/instruction_prices.h"

namespace shardwise::internal {

struct Message {
  int from = 0;  // actors
  int to = 0;
  int level = 0;
  std::int64_t bytes = 0;
  bool send_is_posted = false;
  bool receive_is_posted = false;
  bool is_done = false;
  Picoseconds begin{0};
  // While under way.
  double left = 1;            // of it
  Picoseconds duration{0};    // of the whole at the rate of the moment
  Picoseconds updated{0};     // when `left` was true
  std::uint32_t version = 0;  // of its end; older ends are void
};

// An actor stands for one or more ranks that do the same at the same time. Times given to calls
// must not decrease.
class Network {
 public:
  // node_mixes[a]: which actors, and how many ranks of each, share a node with a rank of actor a.
  Network(InstructionPrices& prices, std::vector<std::vector<std::pair<int, int>>> node_mixes)
      : prices_(prices),
        node_mixes_(std::move(node_mixes)),
        sending_(node_mixes_.size(), kNone),
        receiving_(node_mixes_.size(), kNone),
        queues_(node_mixes_.size()) {}

  int add(const Message& message) {
    messages_.push_back(message);
    return static_cast<int>(messages_.size()) - 1;
  }
  Message& message(int id) { return messages_[static_cast<std::size_t>(id)]; }
  const Message& message(int id) const { return messages_[static_cast<std::size_t>(id)]; }

  // Both ends are posted: the message goes as soon as its devices are free.
  void become_ready(int id, Picoseconds now);
  // The message has arrived.
  void finish(int id, Picoseconds now);

  // Ends that have become known since the last call: (message, when); void once version has moved.
  struct End {
    int message = 0;
    Picoseconds time{0};
    std::uint32_t version = 0;
  };
  std::vector<End> take_new_ends() { return std::exchange(new_ends_, {}); }

 private:
  static constexpr int kNone = -1;

  bool may_start(const Message& message) const;
  void start(int id, Picoseconds now);
  void start_next(int actor, Picoseconds now);
  int sharers(const Message& message) const;
  void reprice_neighbours(const Message& changed, Picoseconds now);
  void reprice(int id, Picoseconds now);
  bool is_inside_node(int id) const { return message(id).level == 0; }

  InstructionPrices& prices_;
  const std::vector<std::vector<std::pair<int, int>>> node_mixes_;
  std::vector<Message> messages_;
  std::vector<int> sending_;              // by actor: message under way
  std::vector<int> receiving_;            // by actor
  std::vector<std::vector<int>> queues_;  // by actor: ready messages that wait, oldest first
  std::vector<End> new_ends_;
};

}  // namespace shardwise::internal
