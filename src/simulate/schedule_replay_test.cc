// Replays of pipelines whose times are given, against the closed forms of schedules.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/errors.h"
#include "cost/evaluate.h"
#include "simulate/pipeline_model_testing.h"
#include "simulate/simulate.h"

namespace shardwise {
namespace {

using test::ChunkTime;
using test::pipeline_model;
using test::PipelineModel;

Simulation run(const PipelineModel& model, const SimulationOptions& options = {}) {
  EXPECT_TRUE(plan_violations(model.plan, model.graph).empty());
  Simulation result = simulate(model.plan, model.graph, model.cluster, model.table, options);
  EXPECT_FALSE(result.deadlock.has_value()) << result.deadlock.value_or("");
  return result;
}

std::int64_t makespan(Schedule schedule, int stages, int chunks, int microbatches, ChunkTime time) {
  const std::vector<ChunkTime> times(
      static_cast<std::size_t>(stages) * static_cast<std::size_t>(chunks), time);
  return run(pipeline_model(schedule, stages, chunks, microbatches, times)).makespan.count;
}

constexpr ChunkTime kTime{1000, 1100, 700, 0};
constexpr unsigned kSeed = 20261123;

TEST(ScheduleReplay, GpipeAnd1F1BHaveTheBubbleOfTheirFillAndDrain) {
  // (m + P - 1) (F + B + W).
  for (const Schedule schedule : {Schedule::kGpipe, Schedule::k1F1B, Schedule::k1F1BEager}) {
    for (const int stages : {1, 2, 4, 7}) {
      for (const int microbatches : {1, 3, 8, 20}) {
        EXPECT_EQ(makespan(schedule, stages, 1, microbatches, kTime),
                  (microbatches + stages - 1) * kTime.all());
      }
    }
  }
}

TEST(ScheduleReplay, InterleavedDividesTheBubbleByTheChunks) {
  // m v (F + B + W) + (P - 1) (F + B + W), times of one chunk.
  for (const int stages : {2, 4}) {
    for (const int chunks : {2, 3}) {
      EXPECT_EQ(makespan(Schedule::kInterleaved, stages, chunks, 4 * stages, kTime),
                (4 * stages * chunks + stages - 1) * kTime.all());
    }
  }
}

// Longest span of a stage, from its first kernel to its last.
std::int64_t span(const Simulation& simulation) {
  std::int64_t longest = 0;
  for (const RankActivity& rank : simulation.ranks) {
    longest = std::max(longest, rank.span().count);
  }
  return longest;
}

Simulation run_equal(
    Schedule schedule, int stages, int microbatches, ChunkTime time, double weight_memory) {
  const int chunks = traits_of(schedule).chunks == ScheduleTraits::Chunks::kTwo ? 2 : 1;
  const std::vector<ChunkTime> times(
      static_cast<std::size_t>(stages) * static_cast<std::size_t>(chunks), time);
  SimulationOptions options;
  options.pass_times.assign(times.size(),
                            {static_cast<double>(time.forward),
                             static_cast<double>(time.input),
                             static_cast<double>(time.weight),
                             static_cast<double>(time.transfer),
                             weight_memory});
  return run(pipeline_model(schedule, stages, chunks, microbatches, times), options);
}

constexpr ChunkTime kEqual{1000, 1000, 1000, 0};

TEST(ScheduleReplay, ZeroBubbleH1GivesAForwardAndABackwardLessAWeightForEachStage) {
  // m (F + B + W) + (P - 1) (F + B - W).
  for (const ChunkTime time : {kTime, kEqual, ChunkTime{900, 1200, 800, 0}}) {
    for (const int stages : {2, 4, 8}) {
      const int count = 3 * stages;
      EXPECT_EQ(run_equal(Schedule::kZeroBubbleH1, stages, count, time, 1).makespan.count,
                count * time.all() + (stages - 1) * (time.forward + time.input - time.weight));
    }
  }
}

TEST(ScheduleReplay, ZeroBubbleH2SpansLoseAnotherWeight) {
  // m (F + B + W) + (P - 1) (F + B - 2 W).
  for (const ChunkTime time : {kTime, kEqual, ChunkTime{900, 1200, 800, 0}}) {
    for (const int stages : {2, 4, 8}) {
      const int count = 3 * stages;
      EXPECT_EQ(span(run_equal(Schedule::kZeroBubbleH2, stages, count, time, 1)),
                count * time.all() + (stages - 1) * (time.forward + time.input - 2 * time.weight));
    }
  }
}

TEST(ScheduleReplay, ZeroBubbleVHasNoBubbleWhenAllPassesAreEqual) {
  for (const int stages : {2, 4, 8}) {
    const int count = 2 * stages;
    EXPECT_EQ(span(run_equal(Schedule::kZeroBubbleV, stages, count, kEqual, 0.5)),
              2 * count * kEqual.all());
  }
}

TEST(ScheduleReplay, VHalfHasHalfTheBubbleOf1F1BOrLess) {
  // (P - 1) (F + B + W) / 2 of a stage, which has two chunks.
  for (const int stages : {4, 8, 16}) {
    for (const int count : {2 * stages, 4 * stages}) {
      EXPECT_LE(span(run_equal(Schedule::kVHalf, stages, count, kEqual, 1)),
                (2 * count + (stages - 1)) * kEqual.all())
          << stages;
    }
  }
}

TEST(ScheduleReplay, VMinStaysBelowTwoThirdsOfTheBubbleOf1F1BAndSomePasses) {
  for (const int stages : {4, 8, 16}) {
    for (const int count : {2 * stages, 4 * stages}) {
      EXPECT_LE(span(run_equal(Schedule::kVMin, stages, count, kEqual, 1)),
                2 * count * kEqual.all() + 4 * (stages - 1) * kEqual.all() / 3 + 3000)
          << stages;
    }
  }
}

TEST(ScheduleReplay, DualPipeVEndsSoonerThanItsFormula) {
  // (P - 1) (F&B + B' - 3 W), F&B a forward and a whole backward one after the other.
  for (const int stages : {2, 4, 8}) {
    const int count = 2 * stages + 3;
    const std::int64_t bubble = (stages - 1) * (5 * 1000 - 3 * 1000);
    EXPECT_LE(span(run_equal(Schedule::kDualPipeV, stages, count, kEqual, 1)),
              2 * count * kEqual.all() + bubble);
  }
}

// Largest number of passes in flight on a stage, in micro-batches of a whole stage.
double peak(Schedule schedule, int stages, double weight_memory) {
  const int chunks = traits_of(schedule).chunks == ScheduleTraits::Chunks::kTwo ? 2 : 1;
  PipelineShape shape{stages, 3 * stages, chunks};
  shape.times.assign(static_cast<std::size_t>(stages) * static_cast<std::size_t>(chunks),
                     {1, 1, 1, 0, weight_memory});
  double most = 0;
  for (const StageOrder& order : stage_orders(schedule, shape)) {
    most = std::max(most, most_in_flight(order, weight_memory) / chunks);
  }
  return most;
}

TEST(ScheduleReplay, ActivationsInFlightAreThoseOfTheTable) {
  for (const int stages : {4, 8, 16}) {
    const double p = stages;
    EXPECT_EQ(peak(Schedule::kGpipe, stages, 1), 3 * p);
    EXPECT_EQ(peak(Schedule::k1F1B, stages, 1), p);
    EXPECT_EQ(peak(Schedule::kZeroBubbleH1, stages, 1), p);
    EXPECT_EQ(peak(Schedule::kZeroBubbleH2, stages, 1), 2 * p - 1);
    EXPECT_LE(peak(Schedule::kZeroBubble1P, stages, 0.5), p + 1e-9);
    EXPECT_LE(peak(Schedule::kZeroBubble2P, stages, 0.5), 2 * p + 1e-9);
    EXPECT_LE(peak(Schedule::kZeroBubbleV, stages, 0.5), p + 1e-9);
    EXPECT_LE(peak(Schedule::kVHalf, stages, 1), p / 2 + 1.5);
    EXPECT_LE(peak(Schedule::kVMin, stages, 1), p / 3 + 1.5);
    EXPECT_LE(peak(Schedule::kDualPipeV, stages, 1), p + 1);
  }
}

TEST(ScheduleReplay, TransfersAreWhatTheFormulasSayForEqualStages) {
  // GPipe with equal stages: P (F + B') + 2 (P - 1) C + (m - 1) (max(F, C) + max(B', C)).
  for (const std::int64_t transfer : {100, 900, 2500}) {
    ChunkTime time = kTime;
    time.transfer = transfer;
    const std::int64_t backward = time.input + time.weight;
    for (const int stages : {2, 4}) {
      const int count = 8;
      EXPECT_EQ(makespan(Schedule::kGpipe, stages, 1, count, time),
                stages * time.all() + 2 * (stages - 1) * transfer +
                    (count - 1) * (std::max(time.forward, transfer) + std::max(backward, transfer)))
          << transfer;
    }
  }
}

TEST(ScheduleReplay, SlicesOfASequencePipelineLikeTeraPipe) {
  // T = sum t_i + (K - 1) max t_i for the forwards of unequal slices through K equal stages:
  // GPipe's forward half, a slice for each micro-batch.
  std::mt19937 random(kSeed);
  std::uniform_int_distribution<int> length(1, 4096);
  for (const int stages : {1, 2, 3, 6, 24}) {
    for (const int slices : {1, 2, 5, 16}) {
      const std::vector<ChunkTime> times(static_cast<std::size_t>(stages), {1000, 0, 0, 0});
      SimulationOptions options;
      options.overlap.pipeline = false;
      std::int64_t sum = 0;
      std::int64_t most = 0;
      for (int i = 0; i < slices; ++i) {
        const int factor = length(random);
        options.microbatch_factors.push_back(factor);
        sum += 1000 * factor;
        most = std::max<std::int64_t>(most, 1000 * factor);
      }
      const PipelineModel model = pipeline_model(Schedule::kGpipe, stages, 1, slices, times);
      const std::int64_t formula = sum + (stages - 1) * most;
      EXPECT_EQ(run(model, options).makespan.count, formula)
          << stages << " stages, " << slices << " slices, seed " << kSeed;
      options.overlap.pipeline = true;
      EXPECT_GE(run(model, options).makespan.count, formula);
    }
  }
}

TEST(ScheduleReplay, FactorsOfAnotherNumberOfMicrobatchesAreRefused) {
  SimulationOptions options;
  options.microbatch_factors = {1, 2, 1};
  const std::vector<ChunkTime> times(2, kTime);
  EXPECT_THROW(run(pipeline_model(Schedule::kGpipe, 2, 1, 4, times), options), InputError);
  options.microbatch_factors = {1, 2, 0, 1};
  EXPECT_THROW(run(pipeline_model(Schedule::kGpipe, 2, 1, 4, times), options), InputError);
}

}  // namespace
}  // namespace shardwise
