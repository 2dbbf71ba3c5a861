#include "runtime/launcher.h"

#include <gtest/gtest.h>

#include <map>

#include "core/errors.h"

namespace shardwise {
namespace {

std::optional<LaunchedRank> in(const std::map<std::string, std::string>& variables) {
  return launched_rank([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

TEST(LaunchedRank, ProcessStartedByHandIsNoRank) { EXPECT_FALSE(in({}).has_value()); }

TEST(LaunchedRank, MpirunIsBelievedBeforeSlurm) {
  const auto place = in({{"OMPI_COMM_WORLD_RANK", "3"},
                         {"OMPI_COMM_WORLD_SIZE", "4"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                         {"SLURM_PROCID", "0"},
                         {"SLURM_STEP_NUM_TASKS", "1"}});
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->world_size, 4);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->local_size, 2);
}

TEST(LaunchedRank, SlurmsTasksPerNodeMayBeRepeated) {
  const auto place = in({{"SLURM_PROCID", "5"},
                         {"SLURM_STEP_NUM_TASKS", "8"},
                         {"SLURM_LOCALID", "1"},
                         {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"}});
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->local_size, 4);
}

TEST(LaunchedRank, NumbersThatAreNoneAreNamed) {
  try {
    in({{"RANK", "one"}, {"WORLD_SIZE", "2"}});
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("RANK"), std::string::npos);
  }
}

TEST(LaunchedRank, RankBeyondTheWorldIsRefused) {
  EXPECT_THROW(in({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), InputError);
}

TEST(MpirunArguments, BinaryAndItsArgumentsComeLast) {
  const std::vector<std::string> all = mpirun_arguments("shardwise", {"train", "p.json"}, 2, false);
  ASSERT_GE(all.size(), 3U);
  EXPECT_EQ(std::vector(all.end() - 3, all.end()),
            (std::vector<std::string>{"shardwise", "train", "p.json"}));
}

}  // namespace
}  // namespace shardwise
