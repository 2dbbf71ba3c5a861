// The YAML form of a cluster (io/cluster_file.h).
//
//   name: two-nodes
//   device: {type: a100, memory: 80 GiB, reserve: 4 GiB, fp32: 19.5 TFLOP/s, bf16: 312 TFLOP/s,
//            memory_bandwidth: 2.039 TB/s}
//   levels:                       # innermost first
//     - {name: nvlink, size: 8, bandwidth: 300 GB/s, latency: 6 us}
//     - {name: network, size: 2, bandwidth: 25 GB/s, latency: 14 us}
//
// Mixed clusters have, instead of `device`, `groups: [{count: 8, device: {...}}, ...]`. A device
// may be the name of a preset. What other programs say of a machine (files beside this one):
//
//     - {name: nvlink, topology: topo.txt, link: 25 GB/s, bus: 12 GB/s, latency: 6 us}
//     - {slurm: topology.conf, bandwidth: [50 GB/s, 25 GB/s], latency: [14 us, 20 us]}
//   measured:
//     - {file: all_reduce.txt, level: nvlink, collective: all_reduce}
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>

#include "core/errors.h"
#include "core/text.h"
#include "cost/device_preset.h"
#include "files/read_file.h"
#include "io/cluster_file.h"
#include "io/cluster_json.h"
#include "io/gpu_topology.h"
#include "io/nccl_tests.h"
#include "io/slurm_topology.h"

namespace shardwise {

namespace {

constexpr int kMostDevices = 1 << 20;

std::string suggest_if_close(const std::string& key, const std::vector<std::string>& names) {
  const std::optional<std::string> match = closest_match(key, names);
  return match ? fmt::format("; did you mean '{}'?", *match) : std::string();
}

// A YAML node that knows its place.
class Node {
 public:
  Node(const YAML::Node& node, std::string file, std::string key)
      : node_(node), file_(std::move(file)), key_(std::move(key)) {}

  std::string where() const {
    const int line = node_.IsDefined() ? node_.Mark().line + 1 : 0;
    return key_.empty() ? fmt::format("{}:{}", file_, line)
                        : fmt::format("{}:{}: key '{}'", file_, line, key_);
  }

  bool has(const std::string& key) const {
    require_map();
    return node_[key].IsDefined();
  }

  Node at(const std::string& key) const {
    require_map();
    if (!node_[key].IsDefined()) {
      throw InputError(where(), fmt::format("expected key '{}', found none; add it", key));
    }
    return Node(node_[key], file_, key_.empty() ? key : key_ + "." + key);
  }

  std::vector<Node> items() const {
    if (!node_.IsSequence()) {
      throw InputError(where(),
                       "expected a list such as \"- {name: nvlink, ...}\", found " + kind());
    }
    std::vector<Node> nodes;
    for (std::size_t i = 0; i < node_.size(); ++i) {
      nodes.emplace_back(node_[i], file_, fmt::format("{}[{}]", key_, i));
    }
    return nodes;
  }

  bool is_text() const { return node_.IsScalar(); }

  // A file that this one names, beside it.
  std::filesystem::path neighbour() const {
    return std::filesystem::path(file_).parent_path() / text();
  }

  std::string text() const {
    if (!node_.IsScalar()) {
      throw InputError(where(), "expected a single value, found " + kind());
    }
    return node_.Scalar();
  }

  int number() const {
    int value = 0;
    if (!node_.IsScalar() || !YAML::convert<int>::decode(node_, value) || value < 1 ||
        value > kMostDevices) {
      throw InputError(where(),
                       fmt::format("expected a whole number from 1 to {}, found \"{}\"",
                                   kMostDevices,
                                   node_.IsScalar() ? node_.Scalar() : kind()));
    }
    return value;
  }

  void reject_unknown_keys(std::initializer_list<std::string> known) const {
    require_map();
    std::set<std::string> seen;
    for (const auto& member : node_) {
      const std::string key = member.first.IsScalar() ? member.first.Scalar() : "?";
      const std::string place =
          fmt::format("{}:{}: key '{}'", file_, member.first.Mark().line + 1, key);
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        const std::vector<std::string> names(known);
        throw InputError(place,
                         "expected one of " + join(names, ", ") + "; found another key" +
                             suggest_if_close(key, names));
      }
      if (!seen.insert(key).second) {
        throw InputError(place, "expected each key once, found it again; remove one");
      }
    }
  }

 private:
  void require_map() const {
    if (!node_.IsMap()) {
      throw InputError(where(),
                       "expected keys and values such as \"name: my-cluster\", found " + kind());
    }
  }

  std::string kind() const {
    return node_.IsMap()        ? "keys and values"
           : node_.IsSequence() ? "a list"
           : node_.IsScalar()   ? "\"" + node_.Scalar() + "\""
                                : "nothing";
  }

  YAML::Node node_;
  std::string file_;
  std::string key_;
};

DeviceType read_device(const Node& node) {
  if (node.is_text()) {
    const std::optional<DeviceType> known = find_device(node.text());
    if (!known) {
      throw InputError(
          node.where(),
          fmt::format(
              "no such device \"{}\"{}", node.text(), suggest(node.text(), device_names())));
    }
    return *known;
  }
  node.reject_unknown_keys(
      {"type", "memory", "reserve", "fp32", "bf16", "memory_bandwidth", "fp8", "fp4"});
  const auto bytes = [&](const char* key) {
    return parse_bytes(node.at(key).text(), node.at(key).where());
  };
  const auto rate = [&](const char* key) {
    return parse_flop_rate(node.at(key).text(), node.at(key).where());
  };
  DeviceType type;
  type.name = node.at("type").text();
  type.memory = bytes("memory");
  type.reserve = node.has("reserve") ? bytes("reserve") : Bytes(0);
  type.peak_fp32 = rate("fp32");
  type.peak_bf16 = rate("bf16");
  type.peak_fp8 = node.has("fp8") ? rate("fp8") : FlopsPerSecond(0);
  type.peak_fp4 = node.has("fp4") ? rate("fp4") : FlopsPerSecond(0);
  type.memory_bandwidth =
      parse_bandwidth(node.at("memory_bandwidth").text(), node.at("memory_bandwidth").where());
  return type;
}

BytesPerSecond read_rate(const Node& node) { return parse_bandwidth(node.text(), node.where()); }
Seconds read_latency(const Node& node) { return parse_duration(node.text(), node.where()); }

// One level for each height of the switches.
std::vector<NetworkLevel> read_switches(const Node& node) {
  node.reject_unknown_keys({"slurm", "bandwidth", "latency"});
  const SwitchTree tree = read_slurm_topology(node.at("slurm").neighbour());
  const std::vector<Node> rates = node.at("bandwidth").items();
  const std::vector<Node> latencies = node.at("latency").items();
  for (const auto& [key, found] :
       {std::pair("bandwidth", rates.size()), std::pair("latency", latencies.size())}) {
    if (found != tree.fan_out.size()) {
      throw InputError(node.at(key).where(),
                       fmt::format("expected one value for each of {} levels of switches, found {}",
                                   tree.fan_out.size(),
                                   found));
    }
  }
  std::vector<NetworkLevel> levels;
  for (std::size_t i = 0; i < tree.fan_out.size(); ++i) {
    levels.push_back({i == 0 ? "leaf switch" : fmt::format("switch level {}", i + 1),
                      tree.fan_out[i],
                      read_rate(rates[i]),
                      read_latency(latencies[i])});
  }
  return levels;
}

std::vector<NetworkLevel> read_levels(const Node& node) {
  if (node.has("slurm")) {
    return read_switches(node);
  }
  NetworkLevel level;
  if (node.has("topology")) {
    node.reject_unknown_keys({"name", "topology", "link", "bus", "latency", "size"});
    const Node file = node.at("topology");
    level = node_level(read_gpu_topology(file.neighbour()),
                       read_rate(node.at("link")),
                       read_rate(node.at("bus")),
                       file.where());
    if (node.has("size") && node.at("size").number() != level.size) {
      throw InputError(node.at("size").where(),
                       fmt::format("expected the {} devices of the topology, found {}",
                                   level.size,
                                   node.at("size").number()));
    }
  } else {
    node.reject_unknown_keys({"name", "size", "bandwidth", "latency"});
    level.size = node.at("size").number();
    level.bandwidth = read_rate(node.at("bandwidth"));
  }
  level.name = node.at("name").text();
  level.latency = read_latency(node.at("latency"));
  return {level};
}

void read_measured(const Node& node, Cluster& cluster) {
  node.reject_unknown_keys({"file", "level", "collective"});
  const Node name = node.at("level");
  const auto level =
      std::find_if(cluster.levels.begin(), cluster.levels.end(), [&](const NetworkLevel& known) {
        return known.name == name.text();
      });
  if (level == cluster.levels.end()) {
    throw InputError(name.where(), fmt::format("no level is called \"{}\"", name.text()));
  }
  std::optional<CollectiveKind> kind;
  if (node.has("collective")) {
    const Node collective = node.at("collective");
    kind = find_collective(collective.text());
    if (!kind) {
      throw InputError(collective.where(),
                       fmt::format("expected all_reduce, all_gather, reduce_scatter or all_to_all, "
                                   "found \"{}\"",
                                   collective.text()));
    }
  }
  const Node file = node.at("file");
  const std::vector<MeasuredCollective> rows =
      measured_collectives(read_nccl_tests(file.neighbour(), kind),
                           static_cast<int>(level - cluster.levels.begin()),
                           file.where());
  cluster.collectives.insert(cluster.collectives.end(), rows.begin(), rows.end());
}

int type_index(Cluster& cluster, const DeviceType& type, const Node& node) {
  for (std::size_t t = 0; t < cluster.types.size(); ++t) {
    if (cluster.types[t].name == type.name) {
      if (cluster.types[t] != type) {
        throw InputError(node.where(),
                         fmt::format("device type {} was described differently "
                                     "before; give this one another name",
                                     type.name));
      }
      return static_cast<int>(t);
    }
  }
  cluster.types.push_back(type);
  return static_cast<int>(cluster.types.size()) - 1;
}

// A network faster than the node it joins is a slip of bits and bytes: cards are sold by Gb/s.
void check_order(const std::vector<NetworkLevel>& levels, const Node& node) {
  for (std::size_t i = 1; i < levels.size(); ++i) {
    const NetworkLevel& inner = levels[i - 1];
    const NetworkLevel& outer = levels[i];
    if (outer.bandwidth > inner.bandwidth && outer.size > 1 && inner.size > 1) {
      throw InputError(node.where(),
                       fmt::format("expected level {} to be no faster than level {} inside it, "
                                   "found {:g} and {:g} GB/s for a device; were bits meant? "
                                   "{:g} Gb/s are {:g} GB/s",
                                   outer.name,
                                   inner.name,
                                   outer.bandwidth.count / 1e9,
                                   inner.bandwidth.count / 1e9,
                                   outer.bandwidth.count / 1e9,
                                   outer.bandwidth.count / 8e9));
    }
  }
}

Cluster read_cluster(const Node& root) {
  root.reject_unknown_keys({"name", "device", "groups", "levels", "measured"});
  Cluster cluster;
  cluster.name = root.at("name").text();
  std::int64_t places = 1;
  for (const Node& node : root.at("levels").items()) {
    for (NetworkLevel& level : read_levels(node)) {
      cluster.levels.push_back(std::move(level));
    }
  }
  for (const NetworkLevel& level : cluster.levels) {
    places = std::min<std::int64_t>(places * level.size, kMostDevices + 1);
  }
  if (root.has("device") == root.has("groups")) {
    throw InputError(
        root.where(),
        fmt::format("expected either key 'device' (all alike) or key 'groups', found {}",
                    root.has("device") ? "both" : "neither"));
  }
  if (root.has("device")) {
    cluster.types.push_back(read_device(root.at("device")));
    cluster.groups.push_back({0, static_cast<int>(places)});
  } else {
    for (const Node& group : root.at("groups").items()) {
      group.reject_unknown_keys({"count", "device"});
      const DeviceType type = read_device(group.at("device"));
      cluster.groups.push_back({type_index(cluster, type, group), group.at("count").number()});
    }
  }
  if (root.has("measured")) {
    for (const Node& node : root.at("measured").items()) {
      read_measured(node, cluster);
    }
  }
  const std::string violation = cluster_violation(cluster);
  if (!violation.empty()) {
    throw InputError(root.where(), violation);
  }
  check_order(cluster.levels, root.at("levels"));
  return cluster;
}

}  // namespace

Cluster parse_cluster_yaml(const std::string& text, const std::string& file_name) {
  try {
    return read_cluster(Node(YAML::Load(text), file_name, ""));
  } catch (const YAML::Exception& error) {
    throw InputError(fmt::format("{}:{}", file_name, error.mark.line + 1),
                     fmt::format("expected YAML, found \"{}\"", error.msg));
  }
}

Cluster read_cluster_file(const std::filesystem::path& path) {
  return parse_cluster_yaml(read_file(path), path.string());
}

}  // namespace shardwise
