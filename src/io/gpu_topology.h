// Reads what `nvidia-smi topo -m` prints: how the devices and network cards of a node are joined.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "graph/cluster.h"

namespace shardwise {

// Nearest first; kLinks: direct links (NV#), the others are ways through PCI Express and
// processors.
enum class GpuPath { kSelf, kLinks, kPix, kPxb, kPhb, kNode, kSystem };

struct GpuTopology {
  struct Cell {
    GpuPath path = GpuPath::kSelf;
    int links = 0;  // kLinks only
    bool operator==(const Cell&) const = default;
  };
  int devices = 0;
  int cards = 0;                         // network cards
  std::vector<std::vector<Cell>> cells;  // [devices + cards][devices + cards], symmetric
};

// Throws InputError with file and line for a matrix that is cut off, not symmetric or has unknown
// cells, and for the output of other programs (rocm-smi).
GpuTopology read_gpu_topology(const std::filesystem::path& path);
GpuTopology parse_gpu_topology(const std::string& text, const std::string& file_name);

// Size, bandwidth and ring_bandwidth of the node's level. `link`: bandwidth of one direct link, one
// direction (NVLink 2 and 3: 25 GB/s); `bus`: of the way through PCI Express and processors.
//   all pairs alike: a switch or full mesh, bandwidth = links * link, or bus
//   else ring_bandwidth[k] = ring_links(k) * link (cost/link_rings.h), bus where that is less;
//   bandwidth = that of all devices.
// Throws InputError with `where` for more than eight devices that are not all alike.
NetworkLevel node_level(const GpuTopology& topology,
                        BytesPerSecond link,
                        BytesPerSecond bus,
                        const std::string& where);

}  // namespace shardwise
