#include "io/cluster_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostDevices = 1 << 20;

DeviceType type_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"name",
                             "memory_bytes",
                             "reserve_bytes",
                             "peak_fp32_flops_per_s",
                             "peak_bf16_flops_per_s",
                             "memory_bytes_per_s"});
  DeviceType type;
  type.name = value.at("name").as_string();
  type.memory = Bytes(value.at("memory_bytes").as_int64(0));
  type.reserve = Bytes(value.at("reserve_bytes").as_int64(0));
  type.peak_fp32 = FlopsPerSecond(value.at("peak_fp32_flops_per_s").as_double(0));
  type.peak_bf16 = FlopsPerSecond(value.at("peak_bf16_flops_per_s").as_double(0));
  type.memory_bandwidth = BytesPerSecond(value.at("memory_bytes_per_s").as_double(0));
  return type;
}

NetworkLevel level_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"name", "size", "bytes_per_s", "latency_s"});
  NetworkLevel level;
  level.name = value.at("name").as_string();
  level.size = value.at("size").as_int(1, kMostDevices);
  level.bandwidth = BytesPerSecond(value.at("bytes_per_s").as_double(0));
  level.latency = Seconds(value.at("latency_s").as_double(0));
  return level;
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
  for (const FlopsPerSecond rate : {type.peak_fp32, type.peak_bf16}) {
    if (is_stated_and_below(rate.count, kLeastFlopsPerSecond)) {
      return fmt::format(
          "expected at least 1 GFLOP/s of device type {}, found {} FLOP/s; check the unit",
          type.name,
          rate.count);
    }
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
                     {"memory_bytes_per_s", type.memory_bandwidth.count}});
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
  }
  return {{"name", cluster.name},
          {"types", std::move(types)},
          {"groups", std::move(groups)},
          {"levels", std::move(levels)}};
}

Cluster cluster_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"name", "types", "groups", "levels"});
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
  const std::string violation = cluster_violation(cluster);
  if (!violation.empty()) {
    throw value.error(violation);
  }
  return cluster;
}

}  // namespace shardwise
