// Price of the messages of a stage boundary or a tied parameter.
#include <algorithm>
#include <map>
#include <set>

#include "core/errors.h"
#include "cost/stage_prices.h"

namespace shardwise::internal {

namespace {

int node_of(const Cluster& cluster, int device) {
  return cluster.levels.empty() ? 0 : device / std::max(cluster.levels.front().size, 1);
}

// Most devices of one node that have something in `bytes`.
int busy_devices_of_a_node(const Cluster& cluster, const std::map<int, std::int64_t>& bytes) {
  std::map<int, int> devices;
  int most = 1;
  for (const auto& [device, count] : bytes) {
    most = std::max(most, ++devices[node_of(cluster, device)]);
  }
  return most;
}

}  // namespace

TransferPrice price_messages(const std::vector<RedistributionMessage>& messages,
                             const std::vector<int>& senders,
                             std::int64_t element_bytes,
                             const Cluster& cluster,
                             const CostTable& costs) {
  std::map<int, std::int64_t> sent;
  std::map<int, std::int64_t> received;
  int level = 0;
  for (const RedistributionMessage& message : messages) {
    if (message.from_device == message.to_device) {
      continue;  // a local copy
    }
    const std::int64_t bytes = message.global_box.elements() * element_bytes;
    sent[message.from_device] += bytes;
    received[message.to_device] += bytes;
    level = std::max(level, level_between(cluster, message.from_device, message.to_device));
  }
  TransferPrice price;
  for (const int device : senders) {
    const auto found = sent.find(device);
    price.sent.push_back(found == sent.end() ? 0 : found->second);
  }
  std::int64_t busiest = 0;
  for (const auto* side : {&sent, &received}) {
    for (const auto& [device, bytes] : *side) {
      busiest = std::max(busiest, bytes);
    }
  }
  if (busiest > 0) {
    // Several receivers of one sender wait for each other, and the other way round; a device that
    // sends and receives belongs to one pair at a time.
    std::set<int> involved;
    for (const auto* side : {&sent, &received}) {
      for (const auto& [device, bytes] : *side) {
        involved.insert(device);
      }
    }
    const int pairs = (static_cast<int>(involved.size()) + 1) / 2;
    price.busiest = Bytes(busiest);
    price.level = level;
    price.concurrent = std::min(
        {busy_devices_of_a_node(cluster, sent), busy_devices_of_a_node(cluster, received), pairs});
  }
  price_again(price, costs);
  return price;
}

void price_again(TransferPrice& price, const CostTable& costs) {
  if (price.busiest.count > 0) {
    const Estimate estimate = costs.transfer_time(price.busiest, price.level, price.concurrent);
    price.time = to_picoseconds(estimate.time);
    price.extrapolated = estimate.extrapolated;
  }
}

}  // namespace shardwise::internal
