#include "io/cluster_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "files/json_writer.h"
#include "files/temporary_folder.h"
#include "io/cluster_json.h"
#include "io/cluster_preset.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr const char* kYaml = R"(name: two-nodes
device:
  type: a100
  memory: 80 GiB
  reserve: 4 GiB
  fp32: 19.5 TFLOP/s
  bf16: 312 TFLOP/s
  memory_bandwidth: 2.039 TB/s
levels:                       # innermost first
  - {name: nvlink, size: 8, bandwidth: 300 GB/s, latency: 6 us}
  - {name: network, size: 2, bandwidth: 200 Gbit/s, latency: 14 us}
)";

constexpr const char* kMixed = R"(name: mixed
groups:
  - count: 2
    device: {type: big, memory: 80 GB, fp32: 60 TFLOP/s, bf16: 900 TFLOP/s, memory_bandwidth: 3 TB/s}
  - count: 4
    device: {type: small, memory: 24 GB, fp32: 30 TFLOP/s, bf16: 120 TFLOP/s, memory_bandwidth: 600 GB/s}
levels:
  - {name: node, size: 2, bandwidth: 12 GB/s, latency: 8 us}
  - {name: network, size: 3, bandwidth: 3 GB/s, latency: 20 us}
)";

std::string refusal_of(const std::string& yaml) {
  try {
    parse_cluster_yaml(yaml, "cluster.yaml");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

// The message for kYaml with `from` replaced by `to`.
std::string refusal(const std::string& from, const std::string& to) {
  std::string text = kYaml;
  const std::size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from;
  return refusal_of(text.replace(place, from.size(), to));
}

TEST(ClusterYaml, QuantitiesAreReadWithTheirUnits) {
  const Cluster cluster = parse_cluster_yaml(kYaml, "cluster.yaml");
  EXPECT_EQ(cluster.name, "two-nodes");
  EXPECT_EQ(cluster.num_devices(), 16);
  ASSERT_THAT(cluster.types, SizeIs(1));
  EXPECT_EQ(cluster.types[0].memory, Bytes(std::int64_t{80} << 30));
  EXPECT_DOUBLE_EQ(cluster.types[0].peak_bf16.count, 312e12);
  ASSERT_THAT(cluster.levels, SizeIs(2));
  EXPECT_DOUBLE_EQ(cluster.levels[1].bandwidth.count, 25e9);  // 200 Gbit/s
  EXPECT_DOUBLE_EQ(cluster.levels[0].latency.count, 6e-6);
}

TEST(ClusterYaml, GroupsNumberTheirDevicesInOrder) {
  const Cluster cluster = parse_cluster_yaml(kMixed, "cluster.yaml");
  EXPECT_EQ(cluster.num_devices(), 6);
  EXPECT_EQ(cluster.types[static_cast<std::size_t>(cluster.type_of(1))].name, "big");
  EXPECT_EQ(cluster.types[static_cast<std::size_t>(cluster.type_of(2))].name, "small");
  EXPECT_EQ(cluster.types[0].reserve, Bytes(0));  // the only key with a default
}

TEST(ClusterYaml, UnitsAreCompulsory) {
  EXPECT_THAT(refusal("300 GB/s", "300"),
              AllOf(StartsWith("cluster.yaml:10: key 'levels[0].bandwidth': "),
                    HasSubstr("got \"300\"; add the unit")));
  EXPECT_THAT(refusal("80 GiB", "80"), StartsWith("cluster.yaml:4: key 'device.memory': "));
  EXPECT_THAT(refusal("14 us", "14 GB"), StartsWith("cluster.yaml:11: key 'levels[1].latency': "));
  EXPECT_THAT(refusal("312 TFLOP/s", "312 TB/s"), HasSubstr("key 'device.bf16'"));
}

TEST(ClusterYaml, ImplausibleRatesAreSlipsOfTheUnit) {
  EXPECT_THAT(refusal("300 GB/s", "300 B/s"), HasSubstr("at least 1 MB/s on level nvlink"));
  EXPECT_THAT(refusal("312 TFLOP/s", "312 FLOP/s"), HasSubstr("at least 1 GFLOP/s"));
  EXPECT_THAT(refusal("2.039 TB/s", "2 B/s"), HasSubstr("memory bandwidth"));
  EXPECT_THAT(refusal("6 us", "6 s"), HasSubstr("latency of at most 1 s"));
  EXPECT_THAT(refusal("reserve: 4 GiB", "reserve: 90 GiB"), HasSubstr("at most the memory"));
  EXPECT_THAT(refusal("80 GiB", "8000 PB"), HasSubstr("of memory"));
}

TEST(ClusterYaml, BitsForBytesAreSuspected) {
  EXPECT_THAT(refusal("200 Gbit/s", "400 GB/s"),
              AllOf(StartsWith("cluster.yaml:10: key 'levels'"),
                    HasSubstr("were bits meant? 400 Gb/s are 50 GB/s")));
  EXPECT_THAT(refusal("300 GB/s", "100 Gb/s"), HasSubstr("were bits meant?"));
}

TEST(ClusterYaml, KeysAreCheckedByName) {
  EXPECT_THAT(refusal("latency: 6 us", "latncy: 6 us"),
              AllOf(StartsWith("cluster.yaml:10: key 'latncy'"), HasSubstr("'latency'")));
  EXPECT_THAT(refusal("  type: a100\n", ""), HasSubstr("expected key 'type'"));
  EXPECT_THAT(refusal("name: two-nodes", "name: a\nname: b"),
              AllOf(StartsWith("cluster.yaml:2: key 'name'"), HasSubstr("once")));
  EXPECT_THAT(refusal("name: two-nodes", "name: a\ngroups: []"), HasSubstr("found both"));
  EXPECT_THAT(refusal_of("name: a\nlevels: []\n"), HasSubstr("found neither"));
}

TEST(ClusterYaml, ShapesAreChecked) {
  EXPECT_THAT(refusal("two-nodes", "[a]"), HasSubstr("a single value, found a list"));
  EXPECT_THAT(refusal("size: 8", "size: many"), HasSubstr("found \"many\""));
  EXPECT_THAT(refusal("size: 8", "size: 0"), HasSubstr("whole number from 1"));
  EXPECT_THAT(refusal("size: 8", "size: 1000000"), HasSubstr("1 to 1048576 devices"));
  EXPECT_THAT(refusal_of("name: a\nlevels: 3\n"), HasSubstr("expected a list"));
  EXPECT_THAT(refusal_of("just text"), AllOf(StartsWith("cluster.yaml:1: "), HasSubstr("just")));
  EXPECT_THAT(refusal_of(""), HasSubstr("found nothing"));
  EXPECT_THAT(refusal_of("name: [unclosed"), AllOf(StartsWith("cluster.yaml:"), HasSubstr("YAML")));
}

TEST(ClusterYaml, LevelsMustHoldAllDevices) {
  std::string text = kMixed;
  text.replace(text.find("size: 3"), 7, "size: 4");
  EXPECT_THAT(refusal_of(text), HasSubstr("multiply to 8, the groups have 6 devices"));
}

TEST(ClusterYaml, OneNameIsOneDeviceType) {
  std::string text = kMixed;
  text.replace(text.find("small"), 5, "big");
  EXPECT_THAT(refusal_of(text),
              AllOf(StartsWith("cluster.yaml:5: "), HasSubstr("described differently")));
}

TEST(ClusterJson, RoundTripIsExact) {
  const Cluster cluster = parse_cluster_yaml(kMixed, "cluster.yaml");
  const std::string text = to_json_text(cluster_to_json(cluster));
  const Cluster read = cluster_from_json(parse_json(text, "cluster.json"));
  EXPECT_EQ(to_json_text(cluster_to_json(read)), text);
  EXPECT_EQ(read.types, cluster.types);
}

// All that a preset says of a machine must survive a plan file: predictions depend on it.
TEST(ClusterJson, PresetsRoundTrip) {
  for (const char* name : {"dgx-h100:2", "gb200-nvl72:1", "dgx-1:2"}) {
    const Cluster cluster = *cluster_preset(name);
    const Cluster read =
        cluster_from_json(parse_json(to_json_text(cluster_to_json(cluster)), "cluster.json"));
    EXPECT_EQ(read.types, cluster.types) << name;
    EXPECT_EQ(read.levels[0].adds_in_switch, cluster.levels[0].adds_in_switch) << name;
    EXPECT_EQ(read.levels[0].ring_bandwidth, cluster.levels[0].ring_bandwidth) << name;
  }
}

TEST(ClusterYaml, OtherProgramsDescribeTheMachine) {
  const TemporaryFolder folder;
  folder.write("topo.txt", "GPU0 GPU1\nGPU0 X NV12\nGPU1 NV12 X\n");
  folder.write("topology.conf",
               "SwitchName=a Nodes=n[0-1]\nSwitchName=b Nodes=n[2-3]\nSwitchName=t Switches=a,b\n");
  folder.write(
      "log.txt",
      "# Collective test starting: all_gather_perf\n"
      "#  Rank  0 Group  0 Pid  1 on  n0 device  0 [0009:01:00] GPU\n"
      "#  Rank  1 Group  0 Pid  2 on  n0 device  1 [0009:01:00] GPU\n"
      "  1048576  262144  float  none  -1  100.0  10.49  5.24  0  100.0  10.49  5.24  0\n");
  const std::string text =
      "name: cluster\n"
      "device: h100-sxm-80gb\n"
      "levels:\n"
      "  - {name: nvlink, topology: topo.txt, link: 25 GB/s, bus: 12 GB/s, latency: 8 us}\n"
      "  - {slurm: topology.conf, bandwidth: [50 GB/s, 25 GB/s], latency: [14 us, 20 us]}\n"
      "measured:\n"
      "  - {file: log.txt, level: nvlink}\n";
  const Cluster cluster = read_cluster_file(folder.write("c.yaml", text));
  EXPECT_EQ(cluster.num_devices(), 8);
  ASSERT_THAT(cluster.levels, SizeIs(3));
  EXPECT_DOUBLE_EQ(cluster.levels[0].bandwidth.count, 300e9);
  EXPECT_DOUBLE_EQ(cluster.levels[2].bandwidth.count, 25e9);
  EXPECT_DOUBLE_EQ(cluster.types[0].matrix_share, 0.803);
  ASSERT_THAT(cluster.collectives, SizeIs(1));
  const Cluster read =
      cluster_from_json(parse_json(to_json_text(cluster_to_json(cluster)), "cluster.json"));
  ASSERT_THAT(read.collectives, SizeIs(1));
  EXPECT_EQ(read.collectives[0].payload.count, 1048576);
  EXPECT_DOUBLE_EQ(read.collectives[0].time.count, 1e-4);
}

TEST(ClusterYaml, UnknownDevicesNameTheNearest) {
  EXPECT_THAT(refusal_of("name: a\ndevice: h100-sxm-80g\nlevels:\n  - {name: n, size: 2, "
                         "bandwidth: 1 GB/s, latency: 1 us}\n"),
              AllOf(StartsWith("cluster.yaml:2: key 'device'"), HasSubstr("'h100-sxm-80gb'")));
}

TEST(ClusterPreset, NodesHaveEightDevices) {
  const Cluster one = *cluster_preset("dgx-h100:1");
  EXPECT_EQ(one.num_devices(), 8);
  EXPECT_THAT(one.levels, SizeIs(1));
  const Cluster many = *cluster_preset("dgx-a100:16");
  EXPECT_EQ(many.num_devices(), 128);
  EXPECT_EQ(level_between(many, 7, 8), 1);
  // Eight cards of 200 Gbit/s for eight devices: 25 GB/s each.
  EXPECT_DOUBLE_EQ(many.levels[1].bandwidth.count, 25e9);
  for (const char* text : {"dgx-a100:2", "dgx-h100:65536", "local:3"}) {
    EXPECT_EQ(cluster_violation(*cluster_preset(text)), "") << text;
  }
}

TEST(ClusterPreset, LocalRanksShareTheMemory) {
  const Cluster two = *cluster_preset("local:2");
  const Cluster four = *cluster_preset("local:4");
  EXPECT_NEAR(two.types[0].memory / four.types[0].memory, 2, 1e-6);
}

TEST(LoadCluster, SaysWhatAClusterIs) {
  const auto refused = [](const std::string& argument) -> std::string {
    try {
      load_cluster(argument);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refused("dgx-h10:2"), HasSubstr("did you mean dgx-h100"));
  EXPECT_THAT(refused("nonsense"), HasSubstr("a profile (.json)"));
  EXPECT_THAT(refused("dgx-h100:0"), HasSubstr("from 1 to 65536"));
  EXPECT_THAT(refused("local:2x"), HasSubstr("\"local:1\""));
  EXPECT_THAT(refused("no-such-file.yaml"), HasSubstr("no-such-file.yaml"));
  EXPECT_THAT(refused("no-such-file.json"), HasSubstr("no-such-file.json"));
}

TEST(LoadCluster, ReadsByTheEndingOfTheFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(load_cluster(folder.write("c.yaml", kYaml).string()).cluster.num_devices(), 16);
  write_profile(folder.path() / "p.json", local_cluster(2), {});
  const LoadedCluster profile = load_cluster((folder.path() / "p.json").string());
  EXPECT_EQ(profile.cluster.num_devices(), 2);
  EXPECT_TRUE(profile.table.has_value());
}

}  // namespace
}  // namespace shardwise
