#include "io/cluster_preset.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "core/errors.h"
#include "cost/device_preset.h"

namespace shardwise {

namespace {

constexpr std::int64_t kGigabyte = 1'000'000'000;

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

std::vector<std::string> preset_names() {
  std::vector<std::string> names = node_names();
  names.emplace_back("local");
  std::sort(names.begin(), names.end());
  return names;
}

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
  if (const std::optional<NodePreset> node = find_node(name)) {
    return cluster_of(*node, parse_count(text, colon, 1 << 16), text);
  }
  if (name == "local") {
    return local_cluster(parse_count(text, colon, 1 << 10));
  }
  return std::nullopt;
}

}  // namespace shardwise
