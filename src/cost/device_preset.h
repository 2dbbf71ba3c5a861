// Devices and nodes by name, with the rates of their data sheets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/cluster.h"

namespace shardwise {

// How devices of a node are joined: a switch or a full mesh; a switch that adds what it reduces
// (NVLink 4 on); the cube mesh of link_rings.h.
enum class NodeLinks { kSwitch, kAddingSwitch, kCubeMesh };

// A node as it is sold, and its share of the network.
struct NodePreset {
  std::string_view name;    // "dgx-a100"
  std::string_view device;  // name of a device preset
  int devices = 8;
  BytesPerSecond node_bandwidth{0};     // of a device to the others of the node, one direction
  BytesPerSecond network_bandwidth{0};  // of a device out of the node, one direction
  NodeLinks links = NodeLinks::kSwitch;
};

// Device of that name, letter case ignored: "a100-sxm-80gb", or as tables print it: "A100-80GB".
// Dense rates (no sparsity), SXM unless the name says otherwise.
std::optional<DeviceType> find_device(std::string_view name);

// Sorted.
std::vector<std::string> device_names();

// The node of that name.
std::optional<NodePreset> find_node(std::string_view name);

// The node in which a device is usually sold.
std::optional<NodePreset> usual_node(std::string_view device);

std::vector<std::string> node_names();

// `nodes` such nodes: one level for the node and, for more than one, one for the network.
Cluster cluster_of(const NodePreset& node, int nodes, const std::string& name);

}  // namespace shardwise
