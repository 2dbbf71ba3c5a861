// The certificate against the planner and brute force of its own relaxation, and what `check` says
// of plan files in which a claim was made false.
#include <gtest/gtest.h>

#include <iostream>
#include <random>

#include "check/check.h"
#include "cost/fake_table.h"
#include "planner/planner.h"
#include "planner/random_table_testing.h"
#include "planner/tiny_models_testing.h"

namespace shardwise {
namespace {

using testing::TinyModel;

struct Problem {
  PlanRequest request;
  Cluster cluster;

  explicit Problem(int devices, int decoders = 2) {
    TinyModel model;
    model.decoder_layers = decoders;
    model.sequence = 8;
    model.vocabulary = 16;
    model.width = 8;
    model.ffn = 16;
    model.head_size = 4;
    model.kv_heads = 2;
    request.graph = [model](std::int64_t microbatch) {
      TinyModel one = model;
      one.microbatch = microbatch;
      return testing::tiny_graph(one);
    };
    request.batch = 4;
    request.sequence = model.sequence;
    request.free_axes = 1;
    request.schedules = {Schedule::k1F1B, Schedule::kGpipe};
    request.limits.recomputes = {Recompute::kNone};
    request.runner_ups = RunnerUps::kSkip;
    cluster.name = "small";
    DeviceType type;
    type.name = "device";
    type.memory = Bytes(1'000'000);
    cluster.types = {type};
    cluster.groups = {{0, devices}};
    cluster.levels = {{"node", 2, BytesPerSecond(1), Seconds(0)},
                      {"network", (devices + 1) / 2, BytesPerSecond(1), Seconds(0)}};
  }
};

FakeTable fake_table() {
  FakeTable table;
  table.op_launch_ps = 1000;
  return table;
}

// The bound holds for whatever evaluate() prices: every plan that the planner finds, its optimum
// included.
TEST(Certificate, LiesBelowTheOptimumForLawlessTimes) {
  int checked = 0;
  for (unsigned seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Problem problem(2, 1);
    problem.request.microbatch_counts = {1 << (seed % 3)};
    problem.request.schedules = {Schedule::k1F1B};
    problem.request.limits.state_shardings = {static_cast<StateSharding>(seed % 4)};
    const testing::RandomTable table(seed);
    problem.request.gap = 0.1;
    const PlanResult result = find_plan(problem.request, problem.cluster, table);
    ASSERT_TRUE(result.plan);
    const BoundCertificate certificate =
        certify_bound(problem.request.graph, 4, Precision::kFloat32, problem.cluster, table);
    EXPECT_LE(certificate.lower_bound(), result.lower_bound);
    for (const CountBound& one : certificate.counts) {
      if (one.num_microbatches == result.plan->num_microbatches) {
        EXPECT_LE(one.bound, result.step_time);
        EXPECT_GT(one.bound.count, 0);
        ++checked;
      }
    }
  }
  EXPECT_EQ(checked, 12);
}

// One device and nothing between kernels and updates but gradient sums: the bound is the step time.
TEST(Certificate, IsExactOnOneDevice) {
  Problem problem(1);
  problem.cluster.levels = {{"node", 1, BytesPerSecond(1), Seconds(0)}};
  FakeTable table = fake_table();
  table.accumulate_ps_per_byte = 0;
  const PlanResult result = find_plan(problem.request, problem.cluster, table);
  ASSERT_TRUE(result.plan);
  EXPECT_EQ(certify_bound(problem.request.graph, 4, Precision::kFloat32, problem.cluster, table)
                .lower_bound(),
            result.step_time);
}

struct Claimed {
  Plan plan;
  PlanClaims claims;
};

// What is true of a plan, asked of evaluate() and certify_bound() anew: the oracle of mutations.
bool has_false_claim(const Claimed& file,
                     const Problem& problem,
                     const CostTable& table,
                     Picoseconds optimum) {
  const Graph graph = problem.request.graph(file.plan.microbatch());
  if (!plan_violations(file.plan, graph).empty()) {
    return true;
  }
  for (const StagePlan& stage : file.plan.stages) {
    for (const int device : stage.devices) {
      if (device >= problem.cluster.num_devices()) {
        return true;
      }
    }
  }
  const Evaluation account = evaluate(file.plan, graph, problem.cluster, table);
  bool is_false = !account.fits() || *file.claims.step_time != account.step_time ||
                  *file.claims.lower_bound > optimum ||
                  (file.claims.is_optimal && *file.claims.lower_bound < account.step_time);
  for (std::size_t s = 0; s < account.stage_memory.size(); ++s) {
    is_false = is_false || file.claims.stage_memory.size() != account.stage_memory.size() ||
               file.claims.stage_memory[s] != account.stage_memory[s].total();
  }
  for (const CountBound& one : file.claims.certificate) {
    is_false = is_false || file.plan.batch % one.num_microbatches != 0;
  }
  return is_false;
}

TEST(Check, RejectsEveryMutationThatMakesAClaimFalse) {
  const Problem problem(4);
  const FakeTable table = fake_table();
  const PlanResult result = find_plan(problem.request, problem.cluster, table);
  ASSERT_TRUE(result.plan);
  ASSERT_EQ(result.stop_reason, StopReason::kOptimal);
  const Evaluation account = evaluate(
      *result.plan, problem.request.graph(result.plan->microbatch()), problem.cluster, table);
  Claimed honest{*result.plan, {}};
  honest.claims.step_time = result.step_time;
  honest.claims.lower_bound = result.lower_bound;
  honest.claims.is_optimal = true;
  for (const StageMemory& memory : account.stage_memory) {
    honest.claims.stage_memory.push_back(memory.total());
  }
  honest.claims.certificate =
      certify_bound(problem.request.graph, 4, Precision::kFloat32, problem.cluster, table).counts;
  const auto violations = [&](const Claimed& file) {
    return check_plan(file.plan, problem.request.graph, problem.cluster, table, file.claims)
        .violations;
  };
  EXPECT_EQ(violations(honest), std::vector<std::string>());

  constexpr unsigned kSeed = 20261123;
  std::mt19937 random(kSeed);
  const auto pick = [&](int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  };
  const auto any_layer = [&](Plan& plan) -> LayerPlan& {
    StagePlan& stage = plan.stages[static_cast<std::size_t>(pick(0, plan.num_stages() - 1))];
    ChunkPlan& chunk =
        stage.chunks[static_cast<std::size_t>(pick(0, static_cast<int>(stage.chunks.size()) - 1))];
    return chunk
        .layers[static_cast<std::size_t>(pick(0, static_cast<int>(chunk.layers.size()) - 1))];
  };
  int rejected = 0;
  int accepted_true = 0;
  int tried = 0;
  for (; rejected < 200 && tried < 2000; ++tried) {
    Claimed file = honest;
    switch (pick(0, 9)) {
      case 0: {
        LayerPlan& layer = any_layer(file.plan);
        const auto op =
            static_cast<std::size_t>(pick(0, static_cast<int>(layer.op_axes.size()) - 1));
        layer.op_axes[op][static_cast<std::size_t>(pick(0, 2))] =
            static_cast<std::int8_t>(pick(-1, 3));
        break;
      }
      case 1:
        any_layer(file.plan).state_sharding = static_cast<StateSharding>(pick(0, 3));
        break;
      case 2:
        any_layer(file.plan).recompute = static_cast<Recompute>(pick(0, 2));
        break;
      case 3:
        file.plan.num_microbatches = 1 << pick(0, 2);
        break;
      case 4:
        file.plan.stages[0].devices[0] = pick(0, 5);
        break;
      case 5:
        any_layer(file.plan).input_layout[1] = AxisLayout::shard(pick(0, 2));
        break;
      case 6:
        file.claims.step_time = Picoseconds(result.step_time.count + pick(-5, 5));
        break;
      case 7:
        file.claims.lower_bound = Picoseconds(result.step_time.count + pick(-9, 9));
        break;
      case 8:
        file.claims.stage_memory[0] = Bytes(file.claims.stage_memory[0].count + pick(-3, 3));
        break;
      default: {
        std::vector<CountBound>& bounds = file.claims.certificate;
        bounds[static_cast<std::size_t>(pick(0, static_cast<int>(bounds.size()) - 1))]
            .num_microbatches = pick(1, 9);
      }
    }
    SCOPED_TRACE(tried);
    if (has_false_claim(file, problem, table, result.step_time)) {
      EXPECT_FALSE(violations(file).empty());
      rejected += violations(file).empty() ? 0 : 1;
    } else if (violations(file).empty()) {
      ++accepted_true;
    }
  }
  std::cout << "seed " << kSeed << ": " << rejected << " of " << rejected
            << " false claims rejected, " << accepted_true << " harmless changes accepted of "
            << tried << " mutations\n";
  EXPECT_EQ(rejected, 200);
  EXPECT_GT(accepted_true, 0);
}

// A bound above what is proved is refused though no plan is known to be faster than it.
TEST(Check, RejectsACertificateThatProvesTooMuch) {
  const Problem problem(4);
  const FakeTable table = fake_table();
  const PlanResult result = find_plan(problem.request, problem.cluster, table);
  ASSERT_TRUE(result.plan);
  PlanClaims claims;
  claims.step_time = result.step_time;
  claims.certificate =
      certify_bound(problem.request.graph, 4, Precision::kFloat32, problem.cluster, table).counts;
  for (CountBound& one : claims.certificate) {
    PlanClaims more = claims;
    const std::size_t place = static_cast<std::size_t>(&one - claims.certificate.data());
    more.certificate[place].bound += Picoseconds(1);
    EXPECT_EQ(check_plan(*result.plan, problem.request.graph, problem.cluster, table, more)
                  .violations.size(),
              1U);
    more.certificate.erase(more.certificate.begin() + static_cast<std::ptrdiff_t>(place));
    const bool was_last = more.certificate.empty();
    EXPECT_EQ(check_plan(*result.plan, problem.request.graph, problem.cluster, table, more)
                  .violations.empty(),
              was_last);
  }
}

}  // namespace
}  // namespace shardwise
