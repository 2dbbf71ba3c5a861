// Price of the messages of a stage boundary or a tied parameter.
#include <algorithm>
#include <map>
#include <utility>

#include "core/errors.h"
#include "cost/stage_prices.h"

namespace shardwise::internal {

namespace {

struct DeviceBytes {
  int device = 0;
  std::int64_t bytes = 0;
};
// Above zero; by device, each once.
using Traffic = std::vector<DeviceBytes>;

void sort_by_device(Traffic& traffic) {
  const auto is_before = [](const DeviceBytes& a, const DeviceBytes& b) {
    return a.device < b.device;
  };
  if (!std::is_sorted(traffic.begin(), traffic.end(), is_before)) {
    std::sort(traffic.begin(), traffic.end(), is_before);
  }
}

int node_of(const Cluster& cluster, int device) {
  return cluster.levels.empty() ? 0 : device / std::max(cluster.levels.front().size, 1);
}

int busy_devices_of_a_node(const Cluster& cluster, const Traffic& traffic) {
  int most = 1;
  int here = 0;
  int node = -1;
  for (const DeviceBytes& each : traffic) {
    const int next = node_of(cluster, each.device);
    here = next == node ? here + 1 : 1;
    node = next;
    most = std::max(most, here);
  }
  return most;
}

int num_involved(const Traffic& sent, const Traffic& received) {
  std::size_t both = 0;
  for (auto a = sent.begin(), b = received.begin(); a != sent.end() && b != received.end();) {
    both += a->device == b->device ? 1 : 0;
    const int device = std::min(a->device, b->device);
    a += a->device == device ? 1 : 0;
    b += b->device == device ? 1 : 0;
  }
  return static_cast<int>(sent.size() + received.size() - both);
}

// All but TransferPrice::sent.
TransferPrice price_traffic(const Traffic& sent,
                            const Traffic& received,
                            int level,
                            const Cluster& cluster,
                            const CostTable& costs) {
  TransferPrice price;
  for (const Traffic* side : {&sent, &received}) {
    for (const DeviceBytes& each : *side) {
      price.busiest = std::max(price.busiest, Bytes(each.bytes));
    }
  }
  if (price.busiest.count > 0) {
    // Several receivers of one sender wait for each other, and the other way round; a device that
    // sends and receives belongs to one pair at a time.
    const int pairs = (num_involved(sent, received) + 1) / 2;
    price.level = level;
    price.concurrent = std::min(
        {busy_devices_of_a_node(cluster, sent), busy_devices_of_a_node(cluster, received), pairs});
  }
  price_again(price, costs);
  return price;
}

// Highest level that a message crosses.
int level_of(const RepeatedMessages& repeated,
             const TensorPlacement& sender,
             const TensorPlacement& receiver,
             const Cluster& cluster) {
  const int highest = std::max(static_cast<int>(cluster.levels.size()) - 1, 0);
  int level = 0;
  for (int copy = 0; copy < repeated.copies && level < highest; ++copy) {
    for (const RepeatedMessages::Message& message : repeated.messages) {
      const int from = message.from + copy * repeated.sender_stride;
      const int to = message.to + copy * repeated.receiver_stride;
      level = std::max(level,
                       level_between(cluster,
                                     sender.devices[static_cast<std::size_t>(from)],
                                     receiver.devices[static_cast<std::size_t>(to)]));
    }
  }
  return level;
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
    const std::int64_t bytes = message.global_box.elements() * element_bytes;
    if (message.from_device == message.to_device || bytes == 0) {
      continue;  // a local copy
    }
    sent[message.from_device] += bytes;
    received[message.to_device] += bytes;
    level = std::max(level, level_between(cluster, message.from_device, message.to_device));
  }
  const auto traffic_of = [](const std::map<int, std::int64_t>& bytes) {
    Traffic traffic;
    for (const auto& [device, count] : bytes) {
      traffic.push_back({device, count});
    }
    return traffic;
  };
  TransferPrice price =
      price_traffic(traffic_of(sent), traffic_of(received), level, cluster, costs);
  for (const int device : senders) {
    const auto found = sent.find(device);
    price.sent.push_back(found == sent.end() ? 0 : found->second);
  }
  return price;
}

TransferPrice price_transfer(const std::vector<std::int64_t>& shape,
                             const TensorPlacement& sender,
                             const TensorPlacement& receiver,
                             std::int64_t element_bytes,
                             const Cluster& cluster,
                             const CostTable& costs) {
  const RepeatedMessages repeated = repeated_messages(shape, sender, receiver);
  std::vector<std::int64_t> sent(sender.devices.size(), 0);
  std::vector<std::int64_t> received(receiver.devices.size(), 0);
  for (int copy = 0; copy < repeated.copies; ++copy) {
    for (const RepeatedMessages::Message& message : repeated.messages) {
      const int from = message.from + copy * repeated.sender_stride;
      const int to = message.to + copy * repeated.receiver_stride;
      sent[static_cast<std::size_t>(from)] += message.elements * element_bytes;
      received[static_cast<std::size_t>(to)] += message.elements * element_bytes;
    }
  }
  const auto traffic_of = [](const std::vector<int>& devices,
                             const std::vector<std::int64_t>& bytes) {
    Traffic traffic;
    traffic.reserve(bytes.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] > 0) {
        traffic.push_back({devices[i], bytes[i]});
      }
    }
    sort_by_device(traffic);
    return traffic;
  };
  TransferPrice price = price_traffic(traffic_of(sender.devices, sent),
                                      traffic_of(receiver.devices, received),
                                      level_of(repeated, sender, receiver, cluster),
                                      cluster,
                                      costs);
  price.sent = std::move(sent);
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
