// Replays of pipelines whose times are given, against the closed forms of schedules.
#include <gtest/gtest.h>

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
  const std::vector<ChunkTime> times(static_cast<std::size_t>(stages * chunks), time);
  return run(pipeline_model(schedule, stages, chunks, microbatches, times)).makespan.count;
}

constexpr ChunkTime kTime{1000, 1100, 700, 0};

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

}  // namespace
}  // namespace shardwise
