// Data sheets as published by the makers; matrix_share: best measured bf16 product over the data
// sheet's rate (Bekman, "Machine Learning Engineering", maximum achievable matmul TFLOP/s), 0.83
// where nobody measured it; GB300 as B300, H200 as H100: the same chips.
#include "cost/device_preset.h"

#include <algorithm>

#include "core/text.h"
#include "cost/link_rings.h"

namespace shardwise {

namespace {

struct DeviceRow {
  std::string_view name;
  std::string_view alias;       // as tables print it
  double memory_gb;             // as the maker counts
  double memory_rate;           // GB/s
  double fp32, half, fp8, fp4;  // TFLOP/s
  double exponentials;  // 1e12/s: multiprocessors x 16 a cycle (Blackwell Ultra: 32) x boost clock
  double matrix_share;
};

constexpr double kUnmeasured = 0.83;

// NVIDIA: V100, A100, H100, H200, L4, T4 and GeForce data sheets; GH200, HGX B200 and B300, GB200
// and GB300 NVL72 data sheets (per device, dense). AMD: Instinct MI250X, MI300X data sheets.
// half: fp16 on Volta and Turing, bf16 elsewhere (GeForce: fp32 accumulation).
constexpr DeviceRow kDevices[] = {
    {"a100-pcie-40gb", "", 40, 1555, 19.5, 312, 0, 0, 2.44, 0.81},
    {"a100-pcie-80gb", "", 80, 1935, 19.5, 312, 0, 0, 2.44, 0.81},
    {"a100-sxm-40gb", "A100-40GB", 40, 1555, 19.5, 312, 0, 0, 2.44, 0.87},
    {"a100-sxm-80gb", "A100-80GB", 80, 2039, 19.5, 312, 0, 0, 2.44, 0.87},
    {"b200", "B200", 180, 7700, 75, 2250, 4500, 9000, 4.4, 0.776},
    {"b300", "B300", 270, 7700, 75, 2250, 4500, 13500, 8.8, 0.786},
    {"gb200", "GB200", 186, 8000, 80, 2500, 5000, 10000, 4.6, 0.729},
    {"gb300", "GB300", 278, 8000, 80, 2500, 5000, 15000, 9.3, 0.786},
    {"gh200", "GH200", 96, 4000, 67, 989, 1979, 0, 3.9, 0.838},
    {"h100-pcie-80gb", "", 80, 2000, 51, 756, 1513, 0, 3.2, kUnmeasured},
    {"h100-sxm-80gb", "H100-80GB", 80, 3350, 67, 989, 1979, 0, 3.9, 0.803},
    {"h200", "H200", 141, 4800, 67, 989, 1979, 0, 3.9, 0.803},
    {"l4", "L4", 24, 300, 30.3, 121, 242, 0, 1.9, kUnmeasured},
    {"mi250x", "MI250X", 128, 3277, 47.9, 383, 0, 0, 3.0, kUnmeasured},
    {"mi300x", "MI300X", 192, 5300, 163.4, 1307, 2615, 0, 10.2, 0.511},
    {"rtx-3090", "RTX3090", 24, 936, 35.6, 71, 0, 0, 2.2, kUnmeasured},
    {"rtx-4090", "RTX4090", 24, 1008, 82.6, 165, 330, 0, 5.2, kUnmeasured},
    {"t4", "T4", 16, 320, 8.1, 65, 0, 0, 1.0, kUnmeasured},
    {"v100-sxm-16gb", "V100-16GB", 16, 900, 15.7, 125, 0, 0, 1.96, kUnmeasured},
    {"v100-sxm-32gb", "V100-32GB", 32, 900, 15.7, 125, 0, 0, 1.96, kUnmeasured},
};

constexpr BytesPerSecond gigabytes(double rate) { return BytesPerSecond(rate * 1e9); }

// Per device, one direction. V100 NVLink 2: 6 x 25; A100 NVLink 3: 12 x 25; Hopper NVLink 4: 18 x
// 25; Blackwell NVLink 5: 18 x 50. Network: cards of a node over its devices: DGX-1 4 x 100
// Gbit/s; p3.16xlarge 25 Gbit/s; DGX A100 8 x 200; p4d 400; DGX H100 8 x 400; p5 3,200; NVL72 400
// a device, GB300 800.
constexpr NodePreset kNodes[] = {
    {"dgx-1-16gb", "v100-sxm-16gb", 8, gigabytes(150), gigabytes(6.25), NodeLinks::kCubeMesh},
    {"dgx-1", "v100-sxm-32gb", 8, gigabytes(150), gigabytes(6.25), NodeLinks::kCubeMesh},
    {"dgx-a100", "a100-sxm-80gb", 8, gigabytes(300), gigabytes(25)},
    {"dgx-b200", "b200", 8, gigabytes(900), gigabytes(50), NodeLinks::kAddingSwitch},
    {"dgx-b300", "b300", 8, gigabytes(900), gigabytes(100), NodeLinks::kAddingSwitch},
    {"dgx-h100", "h100-sxm-80gb", 8, gigabytes(450), gigabytes(50), NodeLinks::kAddingSwitch},
    {"dgx-h200", "h200", 8, gigabytes(450), gigabytes(50), NodeLinks::kAddingSwitch},
    {"g4dn.12xlarge", "t4", 4, gigabytes(13), gigabytes(1.5625)},
    {"gb200-nvl72", "gb200", 72, gigabytes(900), gigabytes(50), NodeLinks::kAddingSwitch},
    {"gb300-nvl72", "gb300", 72, gigabytes(900), gigabytes(100), NodeLinks::kAddingSwitch},
    {"gh200-x4", "gh200", 4, gigabytes(150), gigabytes(25)},
    {"mi250x-x4", "mi250x", 4, gigabytes(100), gigabytes(25)},
    {"mi300x-x8", "mi300x", 8, gigabytes(448), gigabytes(50)},
    {"p3.16xlarge", "v100-sxm-16gb", 8, gigabytes(150), gigabytes(0.390625), NodeLinks::kCubeMesh},
    {"p4d.24xlarge", "a100-sxm-40gb", 8, gigabytes(300), gigabytes(6.25)},
    {"p5.48xlarge", "h100-sxm-80gb", 8, gigabytes(450), gigabytes(50), NodeLinks::kAddingSwitch},
    {"p5en.48xlarge", "h200", 8, gigabytes(450), gigabytes(50), NodeLinks::kAddingSwitch},
};

// NCCL's base latency of a ring with the simple protocol, 8.4 us, rounded; across nodes the round
// trip of a network card and its switch on top.
constexpr Seconds kNodeLatency{8e-6};
constexpr Seconds kNetworkLatency{25e-6};

// Driver context, buffers of the communicators (NCCL: hundreds of MB each), and what a caching
// allocator cannot hand out again; of the published runs, which all did fit, 5 GiB refuse none.
constexpr std::int64_t kReserve = std::int64_t{5} << 30;

}  // namespace

std::optional<DeviceType> find_device(std::string_view name) {
  const std::string wanted = to_lower(name);
  for (const DeviceRow& row : kDevices) {
    // A name without its memory is the larger device of the series: "A100", "H100".
    const bool is_series = !row.alias.empty() && row.alias.find("-80GB") != row.alias.npos &&
                           wanted == to_lower(row.alias.substr(0, row.alias.find('-')));
    if (wanted == row.name || wanted == to_lower(row.alias) || is_series) {
      const auto tera = [](double rate) { return FlopsPerSecond(rate * 1e12); };
      DeviceType type;
      type.name = std::string(row.name);
      type.memory = Bytes(static_cast<std::int64_t>(row.memory_gb) << 30);
      type.reserve = Bytes(std::min(kReserve, type.memory.count / 16));
      type.peak_fp32 = tera(row.fp32);
      type.peak_bf16 = tera(row.half);
      type.memory_bandwidth = gigabytes(row.memory_rate);
      type.peak_fp8 = tera(row.fp8);
      type.peak_fp4 = tera(row.fp4);
      type.exponentials = row.exponentials * 1e12;
      type.matrix_share = row.matrix_share;
      return type;
    }
  }
  return std::nullopt;
}

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const DeviceRow& row : kDevices) {
    names.emplace_back(row.name);
  }
  return names;
}

std::optional<NodePreset> find_node(std::string_view name) {
  const auto* const found = std::find_if(
      std::begin(kNodes), std::end(kNodes), [&](const NodePreset& n) { return n.name == name; });
  return found == std::end(kNodes) ? std::nullopt : std::optional(*found);
}

std::optional<NodePreset> usual_node(std::string_view device) {
  const auto* const found =
      std::find_if(std::begin(kNodes), std::end(kNodes), [&](const NodePreset& node) {
        return node.device == device;
      });
  return found == std::end(kNodes) ? std::nullopt : std::optional(*found);
}

std::vector<std::string> node_names() {
  std::vector<std::string> names;
  for (const NodePreset& node : kNodes) {
    names.emplace_back(node.name);
  }
  return names;
}

Cluster cluster_of(const NodePreset& node, int nodes, const std::string& name) {
  Cluster cluster;
  cluster.name = name;
  cluster.types = {find_device(node.device).value()};
  cluster.groups = {{0, node.devices * nodes}};
  cluster.levels = {{"nvlink", node.devices, node.node_bandwidth, kNodeLatency}};
  NetworkLevel& inside = cluster.levels.front();
  inside.adds_in_switch = node.links == NodeLinks::kAddingSwitch;
  if (node.links == NodeLinks::kCubeMesh) {
    const std::vector<double> rings = ring_links(hybrid_cube_mesh());
    const BytesPerSecond link(node.node_bandwidth.count / rings.back());
    for (const double count : rings) {
      inside.ring_bandwidth.push_back(count * link);
    }
    inside.ring_bandwidth.resize(static_cast<std::size_t>(std::min<int>(node.devices, 8)) + 1);
  }
  if (nodes > 1) {
    cluster.levels.push_back({"network", nodes, node.network_bandwidth, kNetworkLatency});
  }
  return cluster;
}

}  // namespace shardwise
