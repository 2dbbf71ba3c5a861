#include "simulate/network.h"

#include <algorithm>
#include <cmath>

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

bool Network::may_start(const Message& message) const {
  return sending_[at(message.from)] == kNone && receiving_[at(message.to)] == kNone;
}

void Network::become_ready(int id, Picoseconds now) {
  const Message& ready = message(id);
  if (may_start(ready)) {
    start(id, now);
    return;
  }
  queues_[at(ready.from)].push_back(id);
  if (ready.to != ready.from) {
    queues_[at(ready.to)].push_back(id);
  }
}

void Network::start(int id, Picoseconds now) {
  Message& begun = message(id);
  sending_[at(begun.from)] = id;
  receiving_[at(begun.to)] = id;
  begun.begin = now;
  begun.updated = now;
  begun.duration = prices_.transfer(Bytes(begun.bytes), begun.level, sharers(begun));
  new_ends_.push_back({id, now + begun.duration, begun.version});
  reprice_neighbours(begun, now);
}

void Network::finish(int id, Picoseconds now) {
  Message& ended = message(id);
  ended.is_done = true;
  ++ended.version;
  sending_[at(ended.from)] = kNone;
  receiving_[at(ended.to)] = kNone;
  reprice_neighbours(ended, now);
  const int from = ended.from;
  const int to = ended.to;
  start_next(from, now);
  if (to != from) {
    start_next(to, now);
  }
}

// The oldest waiting messages of a device that has become free.
void Network::start_next(int actor, Picoseconds now) {
  std::vector<int>& queue = queues_[at(actor)];
  for (std::size_t i = 0; i < queue.size();) {
    const int id = queue[i];
    if (!may_start(message(id))) {
      ++i;
      continue;
    }
    for (const int end : {message(id).from, message(id).to}) {
      std::vector<int>& other = queues_[at(end)];
      other.erase(std::remove(other.begin(), other.end(), id), other.end());
    }
    start(id, now);
    i = 0;
  }
}

// Messages of its kind that leave the sender's node or enter the receiver's, itself included.
int Network::sharers(const Message& message_in) const {
  int leaving = 0;
  for (const auto& [actor, ranks] : node_mixes_[at(message_in.from)]) {
    const int other = sending_[at(actor)];
    leaving += other != kNone && is_inside_node(other) == (message_in.level == 0) ? ranks : 0;
  }
  int entering = 0;
  for (const auto& [actor, ranks] : node_mixes_[at(message_in.to)]) {
    const int other = receiving_[at(actor)];
    entering += other != kNone && is_inside_node(other) == (message_in.level == 0) ? ranks : 0;
  }
  return std::max(leaving, entering);
}

void Network::reprice_neighbours(const Message& changed, Picoseconds now) {
  const int from = changed.from;
  const int to = changed.to;
  for (const auto& [actor, ranks] : node_mixes_[at(from)]) {
    if (sending_[at(actor)] != kNone) {
      reprice(sending_[at(actor)], now);
    }
  }
  for (const auto& [actor, ranks] : node_mixes_[at(to)]) {
    if (receiving_[at(actor)] != kNone) {
      reprice(receiving_[at(actor)], now);
    }
  }
}

void Network::reprice(int id, Picoseconds now) {
  Message& under_way = message(id);
  const Picoseconds duration =
      prices_.transfer(Bytes(under_way.bytes), under_way.level, sharers(under_way));
  if (duration == under_way.duration) {
    return;
  }
  if (under_way.duration.count > 0) {
    under_way.left -= (now - under_way.updated) / under_way.duration;
    under_way.left = std::max(under_way.left, 0.0);
  }
  under_way.updated = now;
  under_way.duration = duration;
  ++under_way.version;
  const auto rest = std::llround(under_way.left * static_cast<double>(duration.count));
  new_ends_.push_back({id, now + Picoseconds(rest), under_way.version});
}

}  // namespace shardwise::internal
