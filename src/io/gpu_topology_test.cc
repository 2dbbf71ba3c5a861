#include "io/gpu_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/errors.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr const char* kPairs =
    "        GPU0    GPU1    GPU2    GPU3    CPU Affinity\n"
    "GPU0     X      NV1     SYS     SYS     0-7\n"
    "GPU1    NV1      X      SYS     SYS     0-7\n"
    "GPU2    SYS     SYS      X      NV1     8-15\n"
    "GPU3    SYS     SYS     NV1      X      8-15\n";

NetworkLevel level_of(const GpuTopology& topology) {
  return node_level(topology, BytesPerSecond(25e9), BytesPerSecond(12e9), "topo.txt");
}

std::string refusal(const std::string& from, const std::string& to) {
  std::string text = kPairs;
  text.replace(text.find(from), from.size(), to);
  try {
    parse_gpu_topology(text, "topo.txt");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(GpuTopology, PairsOfLinksOverTheBus) {
  const NetworkLevel level = level_of(parse_gpu_topology(kPairs, "topo.txt"));
  EXPECT_EQ(level.size, 4);
  ASSERT_THAT(level.ring_bandwidth, SizeIs(5));
  EXPECT_DOUBLE_EQ(level.ring_bandwidth[2].count, 25e9);
  EXPECT_DOUBLE_EQ(level.ring_bandwidth[3].count, 12e9);
  EXPECT_DOUBLE_EQ(level.bandwidth.count, 12e9);
}

TEST(GpuTopology, DamageIsNamed) {
  EXPECT_THAT(refusal("GPU3    SYS     SYS     NV1      X      8-15\n", ""),
              HasSubstr("expected the row of GPU3, found \"\"; the matrix is cut off"));
  EXPECT_THAT(refusal("GPU2    SYS     SYS      X      NV1     8-15\n", "GPU2    SYS\n"),
              AllOf(StartsWith("topo.txt:4: "), HasSubstr("cut off")));
  EXPECT_THAT(refusal("GPU1    NV1", "GPU1    NV2"), HasSubstr("from GPU0 to GPU1 and back"));
  EXPECT_THAT(refusal("NV1", "XGMI"), HasSubstr("rocm-smi"));
  EXPECT_THAT(refusal("NV1", "NV0"), HasSubstr("found \"NV0\""));
  EXPECT_THROW(parse_gpu_topology("Legend:\n", "topo.txt"), InputError);
}

TEST(GpuTopology, RealMatricesAreRead) {
  const char* data = std::getenv("SHARDWISE_DATA");
  const std::string folder =
      std::string(data != nullptr ? data : "../shared/data") + "/cluster_samples/";
  if (!std::filesystem::exists(folder)) {
    GTEST_SKIP() << "no " << folder << "; set SHARDWISE_DATA";
  }
  struct Expected {
    const char* file;
    int devices, cards;
    double bandwidth;
  };
  for (const auto& [file, devices, cards, bandwidth] :
       {Expected{"topo_a100_8gpu_10nic_tabs.txt", 8, 10, 300e9},
        {"topo_b200_8gpu_8nic.txt", 8, 8, 450e9},
        {"topo_4gpu_nv12_bare.txt", 4, 0, 300e9},
        {"topo_4gpu_nv1_pairs.txt", 4, 0, 12e9},
        {"topo_4gpu_phb.txt", 4, 0, 12e9},
        {"topo_2gpu.txt", 2, 0, 25e9}}) {
    const GpuTopology read = read_gpu_topology(folder + file);
    EXPECT_EQ(read.devices, devices) << file;
    EXPECT_EQ(read.cards, cards) << file;
    EXPECT_DOUBLE_EQ(level_of(read).bandwidth.count, bandwidth) << file;
  }
  EXPECT_THROW(read_gpu_topology(folder + "topo_rocm_smi.txt"), InputError);
}

}  // namespace
}  // namespace shardwise
