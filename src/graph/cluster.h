// Devices and the network between them. Plain data; io reads it, cost prices it.
#pragma once

#include <string>
#include <vector>

#include "core/units.h"
#include "graph/layout.h"

namespace shardwise {

// Rates of one kind of device as its data sheet states them (modelled source only).
struct DeviceType {
  std::string name;  // "a100-sxm-80gb", "local"
  Bytes memory{0};   // capacity
  Bytes reserve{0};  // kept free: allocator, communication library, driver
  FlopsPerSecond peak_fp32{0};
  FlopsPerSecond peak_bf16{0};
  BytesPerSecond memory_bandwidth{0};
  // Dense rates of smaller formats, zero where the device has none.
  FlopsPerSecond peak_fp8{0};
  FlopsPerSecond peak_fp4{0};
  double exponentials = 0;  // special-function results per second, the softmax's limit; 0 unknown
  double matrix_share = 0.83;  // best measured bf16 matrix product over peak_bf16

  bool operator==(const DeviceType&) const = default;
};

// One level of the network, innermost first. `size` parts of the level below make one of this level
// (level 0: devices of a node).
struct NetworkLevel {
  std::string name;
  int size = 1;
  BytesPerSecond bandwidth{0};  // per device, one direction
  Seconds latency{0};
  // Level 0 without a switch: bandwidth of a ring through k devices at [k], for fewer links join
  // fewer devices. Empty, or zero at [k]: `bandwidth`.
  std::vector<BytesPerSecond> ring_bandwidth = {};
  // The switch adds what passes through it: an all-reduce sends every byte once.
  bool adds_in_switch = false;
};

// One measured time of a collective over the whole of a group's place: all-reduce over 8 ranks of
// one node. Payload by the convention of graph/layout.h.
struct MeasuredCollective {
  CollectiveKind kind = CollectiveKind::kAllReduce;
  int level = 0;  // lowest one that holds the group
  int ranks = 2;
  int ranks_per_node = 2;
  Bytes payload{0};
  Seconds time{0};
};

struct DeviceGroup {
  int type = 0;   // index into Cluster::types
  int count = 0;  // devices with consecutive ids
};

struct Cluster {
  std::string name;
  std::vector<DeviceType> types;
  std::vector<DeviceGroup> groups;   // device ids are numbered through the groups in order
  std::vector<NetworkLevel> levels;  // innermost first
  std::vector<MeasuredCollective> collectives = {};  // where there are any, they are believed

  int num_devices() const;
  int type_of(int device) const;  // index into types
};

// Lowest level whose one part holds both / all devices (0 = same node).
int level_between(const Cluster& cluster, int device_a, int device_b);
int level_spanned(const Cluster& cluster, const std::vector<int>& devices);

}  // namespace shardwise
