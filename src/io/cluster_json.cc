#include "io/cluster_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostDevices = 1 << 20;
constexpr double kLargestRate = 1e24;  // operations or bytes per second, far beyond any device
constexpr double kSlowestRate = 1;     // bytes per second: time is bytes over rate

DeviceType type_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"name",
                             "memory_bytes",
                             "reserve_bytes",
                             "peak_fp32_flops_per_s",
                             "peak_bf16_flops_per_s",
                             "memory_bytes_per_s",
                             "peak_fp8_flops_per_s",
                             "peak_fp4_flops_per_s",
                             "exponentials_per_s",
                             "matrix_share"});
  DeviceType type;
  type.name = value.at("name").as_string();
  type.memory = Bytes(value.at("memory_bytes").as_int64(0));
  type.reserve = Bytes(value.at("reserve_bytes").as_int64(0));
  type.peak_fp32 = FlopsPerSecond(value.at("peak_fp32_flops_per_s").as_double(0));
  type.peak_bf16 = FlopsPerSecond(value.at("peak_bf16_flops_per_s").as_double(0));
  type.memory_bandwidth =
      BytesPerSecond(value.at("memory_bytes_per_s").as_double(kSlowestRate, kLargestRate));
  const auto stated = [&](const char* key, double missing, double most) {
    const std::optional<JsonValue> found = value.find(key);
    return found ? found->as_double(0, most) : missing;
  };
  type.peak_fp8 = FlopsPerSecond(stated("peak_fp8_flops_per_s", 0, kLargestRate));
  type.peak_fp4 = FlopsPerSecond(stated("peak_fp4_flops_per_s", 0, kLargestRate));
  type.exponentials = stated("exponentials_per_s", 0, kLargestRate);
  type.matrix_share = stated("matrix_share", type.matrix_share, 1);
  return type;
}

NetworkLevel level_from_json(const JsonValue& value) {
  value.reject_unknown_keys(
      {"name", "size", "bytes_per_s", "latency_s", "ring_bytes_per_s", "adds_in_switch"});
  NetworkLevel level;
  level.name = value.at("name").as_string();
  level.size = value.at("size").as_int(1, kMostDevices);
  level.bandwidth = BytesPerSecond(value.at("bytes_per_s").as_double(kSlowestRate, kLargestRate));
  level.latency = Seconds(value.at("latency_s").as_double(0));
  if (const std::optional<JsonValue> rings = value.find("ring_bytes_per_s")) {
    for (const JsonValue& rate : rings->items()) {
      level.ring_bandwidth.emplace_back(rate.as_double(0, kLargestRate));
    }
  }
  if (const std::optional<JsonValue> adds = value.find("adds_in_switch")) {
    level.adds_in_switch = adds->as_bool();
  }
  return level;
}

constexpr CollectiveKind kMeasurable[] = {CollectiveKind::kAllGather,
                                          CollectiveKind::kReduceScatter,
                                          CollectiveKind::kAllReduce,
                                          CollectiveKind::kAllToAll};

MeasuredCollective collective_from_json(const JsonValue& value) {
  value.reject_unknown_keys(
      {"collective", "level", "ranks", "ranks_per_node", "payload_bytes", "time_s"});
  MeasuredCollective row;
  const JsonValue name = value.at("collective");
  const auto* const known =
      std::find_if(std::begin(kMeasurable), std::end(kMeasurable), [&](CollectiveKind kind) {
        return to_string(kind) == name.as_string();
      });
  if (known == std::end(kMeasurable)) {
    throw name.unexpected("a collective such as \"all-reduce\"");
  }
  row.kind = *known;
  row.level = value.at("level").as_int(0, kMostDevices);
  row.ranks = value.at("ranks").as_int(2, kMostDevices);
  row.ranks_per_node = value.at("ranks_per_node").as_int(1, row.ranks);
  row.payload = Bytes(value.at("payload_bytes").as_int64(1));
  row.time = Seconds(value.at("time_s").as_double(1e-12, 1e6));
  return row;
}

// Slower or later than any hardware: surely a slip in the unit, and times would leave the range of
// the planner's numbers. Zero means "not stated" (a profile measures instead).
constexpr double kLeastBytesPerSecond = 1e6;
constexpr double kLeastFlopsPerSecond = 1e9;
constexpr double kLongestLatency = 1;
constexpr Bytes kLargestMemory{std::int64_t{1} << 50};

bool is_stated_and_below(double rate, double least) { return rate != 0 && rate < least; }

std::string type_violation(const DeviceType& type) {
  if (type.memory.count < 0 || type.memory > kLargestMemory) {
    return fmt::format("expected at most {} of memory on device type {}, found {}",
                       format_bytes(kLargestMemory),
                       type.name,
                       format_bytes(type.memory));
  }
  if (type.reserve.count < 0 || type.reserve > type.memory) {
    return fmt::format("expected a reserve of at most the memory {} on device type {}, found {}",
                       format_bytes(type.memory),
                       type.name,
                       format_bytes(type.reserve));
  }
  for (const FlopsPerSecond rate : {type.peak_fp32, type.peak_bf16, type.peak_fp8, type.peak_fp4}) {
    if (is_stated_and_below(rate.count, kLeastFlopsPerSecond)) {
      return fmt::format(
          "expected at least 1 GFLOP/s of device type {}, found {} FLOP/s; check the unit",
          type.name,
          rate.count);
    }
  }
  if (!(type.matrix_share > 0) || type.matrix_share > 1) {
    return fmt::format("expected a matrix share above 0 and at most 1 of device type {}, found {}",
                       type.name,
                       type.matrix_share);
  }
  if (is_stated_and_below(type.memory_bandwidth.count, kLeastBytesPerSecond)) {
    return fmt::format(
        "expected a memory bandwidth of at least 1 MB/s of device type {}, found {} B/s; check the "
        "unit",
        type.name,
        type.memory_bandwidth.count);
  }
  return "";
}

std::string level_violation(const NetworkLevel& level) {
  if (is_stated_and_below(level.bandwidth.count, kLeastBytesPerSecond)) {
    return fmt::format("expected at least 1 MB/s on level {}, found {} B/s; check the unit",
                       level.name,
                       level.bandwidth.count);
  }
  for (const BytesPerSecond rate : level.ring_bandwidth) {
    if (is_stated_and_below(rate.count, kLeastBytesPerSecond)) {
      return fmt::format(
          "expected rings of at least 1 MB/s on level {}, found {} B/s; check the "
          "unit",
          level.name,
          rate.count);
    }
  }
  if (level.latency.count > kLongestLatency) {
    return fmt::format("expected a latency of at most 1 s on level {}, found {}; check the unit",
                       level.name,
                       format_seconds(level.latency));
  }
  return "";
}

}  // namespace

std::string cluster_violation(const Cluster& cluster) {
  for (const DeviceType& type : cluster.types) {
    if (std::string violation = type_violation(type); !violation.empty()) {
      return violation;
    }
  }
  for (const NetworkLevel& level : cluster.levels) {
    if (std::string violation = level_violation(level); !violation.empty()) {
      return violation;
    }
  }
  for (const MeasuredCollective& row : cluster.collectives) {
    if (row.level >= static_cast<int>(cluster.levels.size())) {
      return fmt::format("measured collectives at level {}, but there are {} levels",
                         row.level,
                         cluster.levels.size());
    }
  }
  std::int64_t devices = 0;
  for (const DeviceGroup& group : cluster.groups) {
    if (group.type < 0 || group.type >= static_cast<int>(cluster.types.size())) {
      return fmt::format(
          "group of device type {}, but there are {} types", group.type, cluster.types.size());
    }
    if (group.count < 1) {
      return fmt::format("expected at least one device in a group, found {}", group.count);
    }
    devices = std::min<std::int64_t>(devices + group.count, kMostDevices + 1);
  }
  if (devices < 1 || devices > kMostDevices) {
    return fmt::format("expected 1 to {} devices, found {}", kMostDevices, devices);
  }
  std::int64_t places = 1;
  for (const NetworkLevel& level : cluster.levels) {
    places *= level.size;
    if (places > kMostDevices) {
      break;
    }
  }
  if (places != devices) {
    return fmt::format(
        "the levels' sizes multiply to {}, the groups have {} devices", places, devices);
  }
  return "";
}

Json cluster_to_json(const Cluster& cluster) {
  Json types = Json::array();
  for (const DeviceType& type : cluster.types) {
    types.push_back({{"name", type.name},
                     {"memory_bytes", type.memory.count},
                     {"reserve_bytes", type.reserve.count},
                     {"peak_fp32_flops_per_s", type.peak_fp32.count},
                     {"peak_bf16_flops_per_s", type.peak_bf16.count},
                     {"memory_bytes_per_s", type.memory_bandwidth.count},
                     {"peak_fp8_flops_per_s", type.peak_fp8.count},
                     {"peak_fp4_flops_per_s", type.peak_fp4.count},
                     {"exponentials_per_s", type.exponentials},
                     {"matrix_share", type.matrix_share}});
  }
  Json groups = Json::array();
  for (const DeviceGroup& group : cluster.groups) {
    groups.push_back({{"type", group.type}, {"count", group.count}});
  }
  Json levels = Json::array();
  for (const NetworkLevel& level : cluster.levels) {
    levels.push_back({{"name", level.name},
                      {"size", level.size},
                      {"bytes_per_s", level.bandwidth.count},
                      {"latency_s", level.latency.count}});
    if (!level.ring_bandwidth.empty()) {
      Json rings = Json::array();
      for (const BytesPerSecond rate : level.ring_bandwidth) {
        rings.push_back(rate.count);
      }
      levels.back()["ring_bytes_per_s"] = std::move(rings);
    }
    if (level.adds_in_switch) {
      levels.back()["adds_in_switch"] = true;
    }
  }
  Json json = {{"name", cluster.name},
               {"types", std::move(types)},
               {"groups", std::move(groups)},
               {"levels", std::move(levels)}};
  if (!cluster.collectives.empty()) {
    Json rows = Json::array();
    for (const MeasuredCollective& row : cluster.collectives) {
      rows.push_back({{"collective", to_string(row.kind)},
                      {"level", row.level},
                      {"ranks", row.ranks},
                      {"ranks_per_node", row.ranks_per_node},
                      {"payload_bytes", row.payload.count},
                      {"time_s", row.time.count}});
    }
    json["collectives"] = std::move(rows);
  }
  return json;
}

Cluster cluster_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"name", "types", "groups", "levels", "collectives"});
  Cluster cluster;
  cluster.name = value.at("name").as_string();
  for (const JsonValue& type : value.at("types").items()) {
    cluster.types.push_back(type_from_json(type));
  }
  for (const JsonValue& group : value.at("groups").items()) {
    group.reject_unknown_keys({"type", "count"});
    cluster.groups.push_back(
        {group.at("type").as_int(0), group.at("count").as_int(1, kMostDevices)});
  }
  for (const JsonValue& level : value.at("levels").items()) {
    cluster.levels.push_back(level_from_json(level));
  }
  if (const std::optional<JsonValue> rows = value.find("collectives")) {
    for (const JsonValue& row : rows->items()) {
      cluster.collectives.push_back(collective_from_json(row));
    }
  }
  const std::string violation = cluster_violation(cluster);
  if (!violation.empty()) {
    throw value.error(violation);
  }
  return cluster;
}

}  // namespace shardwise
