#include "cost/collective_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }
double as_double(std::int64_t value) { return static_cast<double>(value); }

constexpr double kForever = std::numeric_limits<double>::infinity();

}  // namespace

CollectiveModel::CollectiveModel(const Cluster& cluster) : levels_(cluster.levels) {
  for (const MeasuredCollective& row : cluster.collectives) {
    measured_[{row.kind, row.level, row.ranks, row.ranks_per_node}][row.payload.count] = row.time;
  }
}

double CollectiveModel::node_rate(int devices, const ModelConstants& constants) const {
  const NetworkLevel& node = levels_.front();
  const bool is_direct =
      at(devices) < node.ring_bandwidth.size() && node.ring_bandwidth[at(devices)].count > 0;
  return is_direct ? node.ring_bandwidth[at(devices)].count * constants.direct_share
                   : node.bandwidth.count * constants.node_share;
}

Estimate CollectiveModel::time(CollectiveKind kind,
                               Bytes payload,
                               const GroupPlacement& placement,
                               int token_copies,
                               const ModelConstants& c) const {
  const auto curve =
      measured_.find({kind, placement.level, placement.ranks, placement.ranks_per_node});
  if (curve != measured_.end()) {
    return read_curve(curve->second, payload.count);
  }
  const double n = placement.ranks;
  const bool leaves = placement.level > 0;
  const int on_node = leaves ? std::max(placement.ranks_per_node, 1) : placement.ranks;
  const double g = on_node;
  const double nodes = std::ceil(n / g);
  double network = kForever;
  double hop = 0;
  for (int level = 1; level <= placement.level; ++level) {
    const NetworkLevel& outer = levels_.at(at(level));
    network = std::min(network, outer.bandwidth.count * c.network_share);
    hop = std::max(hop, outer.latency.count);
  }
  const double node = node_rate(on_node, c);
  const bool adds = kind == CollectiveKind::kAllReduce;
  const double passes = adds ? 2 : 1;
  const double size = as_double(payload.count) / passes;
  const double latency = levels_.front().latency.count +
                         passes * ((g - 1) * c.ring_step + std::ceil(std::log2(nodes)) * hop);
  if (kind == CollectiveKind::kAllToAll) {
    // Of k experts drawn evenly, a share of distinct ranks and nodes.
    const double k = token_copies;
    const double inside =
        k > 1 ? size / k * (g - 1) * (1 - std::pow(1 - 1 / n, k)) : size * (g - 1) / n;
    const double outside =
        k > 1 ? size / k * (nodes - 1) * (1 - std::pow(1 - 1 / nodes, k)) : size * (n - g) / n;
    return {Seconds(latency + std::max(inside / node, outside / network) / c.all_to_all)};
  }
  double fastest = passes * size * (n - 1) / n / (leaves ? std::min(node, network * g) : node);
  if (adds && !leaves && levels_.front().adds_in_switch) {
    fastest = std::min(fastest, size / (levels_.front().bandwidth.count * c.in_switch));
  }
  if (adds && leaves && nodes == 2) {
    fastest = std::min(fastest, std::max(2 * size * (g - 1) / g / node, size / (g * network)));
  }
  return {Seconds(latency + fastest)};
}

Seconds CollectiveModel::message(Bytes size, int level, const ModelConstants& constants) const {
  const NetworkLevel& link = levels_.at(at(level));
  const double rate =
      level == 0 ? node_rate(2, constants) : link.bandwidth.count * constants.message_share;
  return Seconds(link.latency.count + as_double(size.count) / rate);
}

}  // namespace shardwise
