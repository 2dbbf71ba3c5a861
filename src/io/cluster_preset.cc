#include "io/cluster_preset.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>

#include "core/errors.h"

namespace shardwise {

namespace {

constexpr std::int64_t kGigabyte = 1'000'000'000;
constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;

// A node of eight devices on one switch, nodes on a fabric with one network card a device.
Cluster dgx(const std::string& name,
            const DeviceType& device,
            BytesPerSecond nvlink,
            BytesPerSecond network_per_device,
            int nodes) {
  constexpr int kDevicesPerNode = 8;
  Cluster cluster;
  cluster.name = name;
  cluster.types = {device};
  cluster.groups = {{0, kDevicesPerNode * nodes}};
  cluster.levels = {{"nvlink", kDevicesPerNode, nvlink, Seconds(6e-6)}};
  if (nodes > 1) {
    cluster.levels.push_back({"network", nodes, network_per_device, Seconds(14e-6)});
  }
  return cluster;
}

// NVIDIA A100 80 GB SXM data sheet: 312 TFLOP/s bf16, 19.5 TFLOP/s fp32 (no TF32), 2,039 GB/s;
// NVLink 3: 600 GB/s both ways; DGX A100: eight 200 Gbit/s cards. Latencies: NCCL's ring base
// latencies, rounded.
Cluster dgx_a100(const std::string& name, int nodes) {
  return dgx(name,
             {"a100-sxm-80gb",
              Bytes(80 * kGibibyte),
              Bytes(4 * kGibibyte),
              FlopsPerSecond(19.5e12),
              FlopsPerSecond(312e12),
              BytesPerSecond(2.039e12)},
             BytesPerSecond(300e9),
             BytesPerSecond(25e9),
             nodes);
}

// NVIDIA H100 80 GB SXM data sheet: 989 TFLOP/s bf16 (dense), 67 TFLOP/s fp32, 3,350 GB/s; NVLink
// 4: 900 GB/s both ways; DGX H100: eight 400 Gbit/s cards.
Cluster dgx_h100(const std::string& name, int nodes) {
  return dgx(name,
             {"h100-sxm-80gb",
              Bytes(80 * kGibibyte),
              Bytes(4 * kGibibyte),
              FlopsPerSecond(67e12),
              FlopsPerSecond(989e12),
              BytesPerSecond(3.35e12)},
             BytesPerSecond(450e9),
             BytesPerSecond(50e9),
             nodes);
}

int parse_count(const std::string& text, std::size_t colon, int most) {
  int count = 0;
  const char* begin = text.data() + colon + 1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, count);
  if (error != std::errc() || stop != end || count < 1 || count > most) {
    throw InputError(fmt::format("cluster \"{}\"", text),
                     fmt::format("expected a number from 1 to {} after the colon, such as \"{}:1\"",
                                 most,
                                 text.substr(0, colon)));
  }
  return count;
}

}  // namespace

std::vector<std::string> preset_names() { return {"dgx-a100", "dgx-h100", "local"}; }

Cluster local_cluster(int ranks) {
  // One core with two 512-bit fused multiply-add units at 2.5 GHz peaks at 160 GFLOP/s in fp32;
  // bf16 gains nothing without matrix units. Ranks share one socket's memory. Profiles replace all
  // of it.
  const std::int64_t memory =
      ::sysconf(_SC_PHYS_PAGES) * static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
  Cluster cluster;
  cluster.name = fmt::format("local:{}", ranks);
  cluster.types = {{"local",
                    Bytes(memory / ranks),
                    Bytes(kGigabyte / 4),
                    FlopsPerSecond(160e9),
                    FlopsPerSecond(160e9),
                    BytesPerSecond(20e9)}};
  cluster.groups = {{0, ranks}};
  cluster.levels = {{"memory", ranks, BytesPerSecond(4e9), Seconds(20e-6)}};
  return cluster;
}

std::optional<Cluster> cluster_preset(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) {
    return std::nullopt;
  }
  const std::string name = text.substr(0, colon);
  if (name == "dgx-a100") {
    return dgx_a100(text, parse_count(text, colon, 1 << 16));
  }
  if (name == "dgx-h100") {
    return dgx_h100(text, parse_count(text, colon, 1 << 16));
  }
  if (name == "local") {
    return local_cluster(parse_count(text, colon, 1 << 10));
  }
  return std::nullopt;
}

}  // namespace shardwise
