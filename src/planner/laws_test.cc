// Laws that the optimum obeys, whatever the problem.
#include <gtest/gtest.h>

#include "cost/fake_table.h"
#include "planner/listed_problem.h"
#include "planner/planner.h"
#include "planner/tiny_models_testing.h"

namespace shardwise {
namespace {

PlanRequest tiny_request() {
  PlanRequest request;
  request.graph = [](std::int64_t microbatch) {
    testing::TinyModel model = testing::tiny_gpt2();
    model.microbatch = microbatch;
    model.sequence = 4;
    model.decoder_layers = 2;
    return testing::tiny_graph(model);
  };
  request.batch = 4;
  request.sequence = 4;
  request.free_axes = 1;
  request.runner_ups = RunnerUps::kSkip;
  return request;
}

Cluster two_nodes(int devices, std::int64_t memory) {
  Cluster cluster;
  cluster.types.resize(1);
  cluster.types[0].memory = Bytes(memory);
  cluster.groups = {{0, devices}};
  cluster.levels = {{"node", 2, {}, {}}, {"network", (devices + 1) / 2, {}, {}}};
  return cluster;
}

FakeTable plain_table(std::int64_t scale) {
  FakeTable table;
  table.op_launch_ps = 700 * scale;
  table.op_ps_per_iteration = scale;
  table.collective_latency_ps = 400 * scale;
  table.collective_ps_per_byte = scale;
  table.transfer_latency_ps = 300 * scale;
  table.transfer_ps_per_byte = scale;
  table.optimizer_ps_per_element = scale;
  return table;
}

constexpr std::int64_t kPlenty = std::int64_t{1} << 40;

Picoseconds best_of(const Cluster& cluster, const CostTable& table) {
  const PlanResult result = find_plan(tiny_request(), cluster, table);
  EXPECT_EQ(result.stop_reason, StopReason::kOptimal);
  return result.step_time;
}

TEST(Laws, MoreMemoryNeverWorsensTheOptimum) {
  const FakeTable table = plain_table(1);
  std::optional<Picoseconds> before;
  for (const std::int64_t memory : {60'000, 100'000, 180'000, 400'000}) {
    PlanRequest request = tiny_request();
    request.free_axes = 0;  // proofs at the limit of memory take long
    const PlanResult result = find_plan(request, two_nodes(2, memory), table);
    if (result.plan) {
      EXPECT_TRUE(!before || result.step_time <= *before) << memory;
      before = result.step_time;
    } else {
      EXPECT_FALSE(before.has_value()) << memory;
    }
  }
  EXPECT_TRUE(before.has_value());
}

TEST(Laws, MoreNodesNeverWorsenTheOptimum) {
  const FakeTable table = plain_table(1);
  EXPECT_LE(best_of(two_nodes(4, kPlenty), table), best_of(two_nodes(2, kPlenty), table));
}

TEST(Laws, TwiceAllTimesIsTwiceTheOptimum) {
  const Picoseconds once = best_of(two_nodes(4, kPlenty), plain_table(1));
  const Picoseconds twice = best_of(two_nodes(4, kPlenty), plain_table(2));
  EXPECT_EQ(twice.count, 2 * once.count);
}

TEST(Laws, FasterCollectivesNeverWorsenTheOptimum) {
  FakeTable faster = plain_table(1);
  faster.op_launch_ps *= 3;  // as in the slower one below
  FakeTable slower = faster;
  slower.collective_ps_per_byte *= 4;
  slower.collective_latency_ps *= 4;
  EXPECT_LE(best_of(two_nodes(4, kPlenty), faster), best_of(two_nodes(4, kPlenty), slower));
}

TEST(Laws, EqualInputsGiveEqualPlansOnAnyNumberOfThreads) {
  PlanRequest request = tiny_request();
  request.runner_ups = RunnerUps::kFind;
  request.threads = 1;
  const FakeTable table = plain_table(1);
  const PlanResult one = find_plan(request, two_nodes(4, kPlenty), table);
  request.threads = 2;
  const PlanResult two = find_plan(request, two_nodes(4, kPlenty), table);
  ASSERT_TRUE(one.plan && two.plan);
  EXPECT_EQ(*one.plan, *two.plan);
  EXPECT_GT(one.runner_ups.size(), 3U);
  ASSERT_EQ(one.runner_ups.size(), two.runner_ups.size());
  for (std::size_t i = 0; i < one.runner_ups.size(); ++i) {
    EXPECT_EQ(one.runner_ups[i].family, two.runner_ups[i].family);
    EXPECT_EQ(one.runner_ups[i].plan, two.runner_ups[i].plan);
    EXPECT_EQ(one.runner_ups[i].step_time, two.runner_ups[i].step_time);
  }
}

TEST(Laws, ProgressEndsAtTheOptimum) {
  PlanRequest request = tiny_request();
  SearchProgress progress;
  request.progress = &progress;
  const PlanResult result = find_plan(request, two_nodes(4, kPlenty), plain_table(1));
  EXPECT_EQ(progress.best, static_cast<double>(result.step_time.count));
  EXPECT_GT(progress.bound, 0);
  EXPECT_LE(progress.bound, progress.best);
}

// Renaming devices: two types of a listed problem change places.
TEST(Laws, RenamingDeviceTypesKeepsTheOptimum) {
  ListedProblem problem;
  problem.types = {{"large", 2, Bytes(100)}, {"small", 3, Bytes(40)}};
  problem.meshes = {{0, 1, "l"}, {0, 2, "ll"}, {1, 1, "s"}, {1, 3, "sss"}};
  problem.layers = {0, 1, 1, 1, 0};
  for (int block = 0; block < 2; ++block) {
    problem.options.emplace_back();
    for (int mesh = 0; mesh < 4; ++mesh) {
      ListedOption fast;
      fast.forward = Picoseconds(20 + 7 * mesh + block);
      fast.state = Bytes(30 - 5 * mesh);
      ListedOption slow = fast;
      slow.forward = Picoseconds(31 + 5 * mesh);
      slow.state = Bytes(12);
      problem.options.back().push_back({fast, slow});
    }
  }
  problem.num_microbatches = 4;
  ListedProblem renamed = problem;
  std::swap(renamed.types[0], renamed.types[1]);
  for (ListedMesh& mesh : renamed.meshes) {
    mesh.type = 1 - mesh.type;
  }
  const ListedResult one = find_listed_plan(problem);
  const ListedResult two = find_listed_plan(renamed);
  ASSERT_TRUE(one.plan && two.plan);
  EXPECT_EQ(one.step_time, two.step_time);
}

}  // namespace
}  // namespace shardwise
