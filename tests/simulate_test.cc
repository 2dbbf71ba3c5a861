// The replay of whole plans: laws, memory, traces, deadlocks, and the formulas of evaluate().
#include "simulate/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/errors.h"
#include "cost/evaluate.h"
#include "cost/fake_table.h"
#include "lower/deadlock.h"
#include "lower/lower.h"
#include "lower/memory.h"
#include "planner/tiny_models_testing.h"
#include "planner/uniform_layout.h"
#include "simulate/trace.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;
using testing::tiny_gpt2;
using testing::tiny_graph;
using testing::TinyModel;

struct Case {
  Graph graph;
  Plan plan;
  Cluster cluster;
  FakeTable table;
};

// Nodes of two devices.
Case make_case(const std::string& text, std::int64_t batch = 8) {
  const UniformLayout layout = parse_uniform_layout(text, "test");
  TinyModel model = tiny_gpt2();
  model.microbatch = layout.microbatch();
  Case made{tiny_graph(model), {}, {}, {}};
  made.plan = make_uniform_plan(
      made.graph, layout, batch, model.sequence, Precision::kFloat32, layout.world(), "test");
  DeviceType type;
  type.name = "device";
  type.memory = Bytes(1LL << 34);
  made.cluster.name = "test";
  made.cluster.types = {type};
  made.cluster.groups = {{0, layout.world()}};
  made.cluster.levels = {{"node", 2, BytesPerSecond(1e10), Seconds(1e-6)},
                         {"network", layout.world(), BytesPerSecond(1e9), Seconds(1e-5)}};
  made.table.op_launch_ps = 50;
  made.table.collective_latency_ps = 40;
  made.table.transfer_latency_ps = 30;
  made.table.overlap = 0.8;
  return made;
}

Simulation run(const Case& made, const SimulationOptions& options = {}) {
  Simulation simulation = simulate(made.plan, made.graph, made.cluster, made.table, options);
  EXPECT_FALSE(simulation.deadlock) << simulation.deadlock.value_or("");
  return simulation;
}

const std::string kLayouts[] = {"tp=2",
                                "dp=4",
                                "dp=4 zero=1",
                                "dp=2 tp=2 sp=1",
                                "dp=2 zero=2",
                                "dp=2 zero=3 recompute=full",
                                "pp=2 dp=2 micro=1",
                                "pp=2 tp=2 dp=2 micro=1 zero=1",
                                "pp=2 micro=1 schedule=interleaved vp=2",
                                "pp=4 micro=1 schedule=gpipe",
                                "pp=4 micro=1 schedule=1f1b-eager"};

TEST(Simulate, RanksThatAreAlikeTakeTheSameTimesAsEachOfThem) {
  for (const std::string& layout : kLayouts) {
    const Case made = make_case(layout);
    SimulationOptions each;
    each.symmetry = SimulationOptions::Symmetry::kIgnore;
    const Simulation classes = run(made);
    const Simulation ranks = run(made, each);
    EXPECT_EQ(classes.makespan, ranks.makespan) << layout;
    int count = 0;
    for (const RankActivity& rank : classes.ranks) {
      count += rank.alike;
    }
    EXPECT_EQ(count, static_cast<int>(ranks.ranks.size())) << layout;
    const Simulation programs = simulate_programs(
        lower_all(made.plan, made.graph), made.plan, made.graph, made.cluster, made.table);
    EXPECT_EQ(programs.makespan, classes.makespan) << layout;
  }
}

TEST(Simulate, PeakMemoryIsThatOfTheProgram) {
  for (const std::string& layout : kLayouts) {
    const Case made = make_case(layout);
    const std::vector<Program> programs = lower_all(made.plan, made.graph);
    for (const RankActivity& rank : run(made).ranks) {
      EXPECT_EQ(rank.peak_memory, memory_of(programs[static_cast<std::size_t>(rank.rank)]).total())
          << layout << " rank " << rank.rank;
    }
  }
}

TEST(Simulate, OneStageTakesWhatTheFormulaSaysWhenNothingIsReduced) {
  for (const std::string layout : {"tp=2", "tp=4", "tp=2 recompute=full"}) {
    const Case made = make_case(layout);
    const Evaluation formula = evaluate(made.plan, made.graph, made.cluster, made.table);
    EXPECT_EQ(run(made).step_time(), formula.step_time) << layout;
  }
}

TEST(Simulate, AStragglerSlowsTheStep) {
  const Case made = make_case("pp=2 dp=2 micro=1");
  SimulationOptions options;
  options.stragglers = {{3, 1.5}};
  const Simulation slow = run(made, options);
  EXPECT_GT(slow.makespan, run(made).makespan);
  EXPECT_EQ(slow.ranks.size(), 4U);  // nobody is like another now
}

TEST(Simulate, JitterComesFromItsSeed) {
  const Case made = make_case("pp=2 dp=2 micro=1");
  SimulationOptions options;
  options.jitter = 0.1;
  const Picoseconds first = run(made, options).makespan;
  EXPECT_EQ(first, run(made, options).makespan);
  options.seed = 2;
  EXPECT_NE(first, run(made, options).makespan);
}

TEST(Simulate, OverlapOfDataAndTensorParallelismIsNeverSlower) {
  for (const std::string layout : {"dp=4", "pp=2 dp=2 micro=1", "pp=4 micro=1"}) {
    const Case made = make_case(layout);
    const Picoseconds all = run(made).makespan;
    SimulationOptions options;
    options.overlap.data = false;
    EXPECT_GE(run(made, options).makespan, all) << layout;
    options.overlap = {};
    options.overlap.tensor = true;
    EXPECT_LE(run(made, options).makespan, all) << layout;
  }
}

TEST(Simulate, OptionsOutOfRangeAreRefused) {
  const Case made = make_case("tp=2");
  SimulationOptions options;
  options.jitter = 0.9;
  EXPECT_THROW(simulate(made.plan, made.graph, made.cluster, made.table, options), InputError);
  options = {};
  options.stragglers = {{7, 2.0}};
  EXPECT_THROW(simulate(made.plan, made.graph, made.cluster, made.table, options), InputError);
}

TEST(Simulate, ADeadlockIsNamedWithItsCircle) {
  // Each of two ranks posts its receives only after all waits.
  const Case made = make_case("pp=2 micro=1");
  std::vector<Program> programs = lower_all(made.plan, made.graph);
  for (Program& program : programs) {
    std::vector<Instruction>& list = program.instructions;
    const auto end = std::find_if(list.begin(), list.end(), [](const Instruction& instruction) {
      return instruction.kind == InstructionKind::kWaitReductions;
    });
    std::stable_partition(list.begin(), end, [](const Instruction& instruction) {
      return instruction.kind != InstructionKind::kPostReceive;
    });
  }
  const Simulation simulation =
      simulate_programs(programs, made.plan, made.graph, made.cluster, made.table);
  ASSERT_TRUE(simulation.deadlock.has_value());
  EXPECT_THAT(*simulation.deadlock, HasSubstr("rank 0 waits"));
  EXPECT_THAT(*simulation.deadlock, HasSubstr("circle closes"));
  EXPECT_TRUE(find_deadlock(programs).has_value());
}

TEST(Trace, SlicesNestAndAddUpToTheBusyTimes) {
  for (const std::string& layout : kLayouts) {
    const Case made = make_case(layout);
    SimulationOptions options;
    options.timeline = SimulationOptions::Timeline::kRecord;
    const Simulation simulation = run(made, options);
    EXPECT_EQ(simulation.makespan, run(made).makespan) << layout;
    std::map<std::tuple<int, Stream>, Picoseconds> sums;
    std::map<std::tuple<int, Stream, bool>, Picoseconds> ends;
    for (const Slice& slice : simulation.slices) {
      Picoseconds& end = ends[{slice.rank, slice.stream, slice.is_reduction}];
      EXPECT_GE(slice.begin, end) << layout;
      end = slice.end;
      sums[{slice.rank, slice.stream}] += slice.end - slice.begin;
    }
    for (const RankActivity& rank : simulation.ranks) {
      EXPECT_EQ((sums[{rank.rank, Stream::kCompute}]), rank.compute) << layout;
      EXPECT_EQ((sums[{rank.rank, Stream::kCollectives}]), rank.collectives) << layout;
      EXPECT_EQ((sums[{rank.rank, Stream::kPointToPoint}]), rank.point_to_point) << layout;
    }
    const nlohmann::json trace = nlohmann::json::parse(to_trace_json(simulation, made.graph));
    std::size_t slices = 0;
    for (const nlohmann::json& event : trace.at("traceEvents")) {
      const std::string phase = event.at("ph");
      EXPECT_THAT(phase, ::testing::AnyOf("M", "X", "C"));
      EXPECT_TRUE(event.at("pid").is_number_integer() && event.at("name").is_string());
      if (phase == "X") {
        ++slices;
        EXPECT_GE(event.at("ts").get<double>(), 0);
        EXPECT_GT(event.at("dur").get<double>(), 0);
        EXPECT_TRUE(event.at("args").is_object());
      }
    }
    EXPECT_EQ(slices, simulation.slices.size());
  }
}

TEST(SplitBackward, SchedulesRunOnRealLayersWithoutDeadlock) {
  for (const ScheduleTraits& traits : all_schedules()) {
    const int chunks = traits.chunks == ScheduleTraits::Chunks::kOne ? 1 : 2;
    for (const std::string layout :
         {"pp=2 dp=2 micro=1", "pp=2 tp=2 micro=1 sp=1 zero=1", "pp=2 dp=2 micro=1 zero=2"}) {
      Case made = make_case(layout + std::string(chunks == 2 ? " schedule=interleaved vp=2" : ""));
      const Plan looped = made.plan;
      made.plan.schedule = traits.schedule;
      for (int k = 0; k < 2 * chunks; ++k) {
        const VirtualStage from = virtual_stage(looped, k);
        const VirtualStage to = virtual_stage(made.plan, k);
        made.plan.stages[static_cast<std::size_t>(to.stage)]
            .chunks[static_cast<std::size_t>(to.chunk)] =
            looped.stages[static_cast<std::size_t>(from.stage)]
                .chunks[static_cast<std::size_t>(from.chunk)];
      }
      ASSERT_TRUE(plan_violations(made.plan, made.graph).empty())
          << traits.name << ": " << plan_violations(made.plan, made.graph).front();
      const std::vector<Program> programs = lower_all(made.plan, made.graph);
      EXPECT_EQ(find_deadlock(programs), std::nullopt) << traits.name << ' ' << layout;
      run(made);
    }
  }
}

}  // namespace
}  // namespace shardwise
