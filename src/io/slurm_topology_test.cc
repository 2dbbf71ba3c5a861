#include "io/slurm_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/errors.h"

namespace shardwise {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

SwitchTree parse(const std::string& text) { return parse_slurm_topology(text, "topology.conf"); }

std::string refusal_of(const std::string& text) {
  try {
    parse(text);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(SlurmTopology, NeighboursShareASwitch) {
  const SwitchTree tree = parse(
      "# two leaves\n"
      "SwitchName=s1 Nodes=b,a\n"
      "switchname=s0 nodes=n[08-09] LinkSpeed=50  # ignored\n"
      "SwitchName=top Switches=s[0-1]\n");
  EXPECT_THAT(tree.nodes, ElementsAre("n08", "n09", "b", "a"));
  EXPECT_THAT(tree.fan_out, ElementsAre(2, 2));
}

TEST(SlurmTopology, BlocksHaveNoSwitchAbove) {
  const SwitchTree tree =
      parse("BlockName=b1 Nodes=n[1-4]\nBlockName=b2 Nodes=n[5-8]\nBlockSizes=4\n");
  EXPECT_THAT(tree.fan_out, ElementsAre(4, 2));
}

TEST(SlurmTopology, HostlistsKeepLeadingZerosAndSuffixes) {
  EXPECT_THAT(expand_hostlist("n[1,08-10]-ib,x", "here"),
              ElementsAre("n1-ib", "n08-ib", "n09-ib", "n10-ib", "x"));
}

TEST(SlurmTopology, WhatIsNoUniformTreeIsRefused) {
  EXPECT_THAT(refusal_of(""), HasSubstr("found none"));
  EXPECT_THAT(refusal_of("SwitchName=a Nodes=n[3-1]\n"),
              AllOf(StartsWith("topology.conf:1: "), HasSubstr("\"3-1\"")));
  EXPECT_THAT(refusal_of("SwitchName=a Nodes=n[1\n"), HasSubstr("pairs of brackets"));
  EXPECT_THAT(refusal_of("SwitchName=a Nods=n1\n"), HasSubstr("found \"Nods=n1\""));
  EXPECT_THAT(refusal_of("SwitchName=a\n"), HasSubstr("either Nodes or Switches"));
  EXPECT_THAT(refusal_of("SwitchName=a Nodes=x\nSwitchName=b Nodes=y\n"),
              HasSubstr("expected one switch above all others, found 2: a, b"));
  EXPECT_THAT(refusal_of("SwitchName=a Switches=b\nSwitchName=b Switches=a\n"),
              HasSubstr("circle"));
  EXPECT_THAT(refusal_of("SwitchName=t Switches=a,b\nSwitchName=a Nodes=x\n"),
              HasSubstr("SwitchName=b, found none"));
  EXPECT_THAT(
      refusal_of("SwitchName=t Switches=a,b\nSwitchName=a Nodes=x\nSwitchName=b Nodes=y,z\n"),
      AllOf(StartsWith("topology.conf:3: "), HasSubstr("expected 1 parts")));
  EXPECT_THAT(refusal_of("SwitchName=t Switches=a,b\nSwitchName=a Nodes=x\nSwitchName=b Nodes=x\n"),
              HasSubstr("node x once"));
}

}  // namespace
}  // namespace shardwise
