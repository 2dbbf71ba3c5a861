// Devices and the network between them. Plain data; io reads it, cost prices it.
#pragma once

#include <string>
#include <vector>

#include "core/units.h"

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

  int num_devices() const;
  int type_of(int device) const;  // index into types
};

// Lowest level whose one part holds both / all devices (0 = same node).
int level_between(const Cluster& cluster, int device_a, int device_b);
int level_spanned(const Cluster& cluster, const std::vector<int>& devices);

}  // namespace shardwise
