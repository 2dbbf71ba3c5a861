// How far the formulas of cost/evaluate.h are from a replay by independent code: random stages
// under the schedules that have a formula. Prints the table of docs/cost_model.md, "Replay".
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <tuple>

#include "cost/evaluate.h"
#include "cost/replay_band.h"
#include "simulate/pipeline_model_testing.h"
#include "simulate/simulate.h"

namespace shardwise {
namespace {

using test::ChunkTime;
using test::pipeline_model;
using test::PipelineModel;

// Makespan of the orders of lower/schedule.h with transfers as pure delays: an oracle that shares
// no code with the simulator (no programs, no events, no waits for sends).
std::int64_t replay_orders(const PipelineModel& model) {
  const Plan& plan = model.plan;
  const PipelineShape shape{plan.num_stages(), plan.num_microbatches, plan.num_chunks()};
  const std::vector<StageOrder> orders = stage_orders(plan.schedule, shape);
  const int last = plan.num_stages() * plan.num_chunks() - 1;
  std::map<std::tuple<bool, int, int>, std::int64_t> ends;  // forward, micro-batch, virtual stage
  std::vector<std::size_t> next(orders.size(), 0);
  std::vector<std::int64_t> clock(orders.size(), 0);
  for (bool progress = true; progress;) {
    progress = false;
    for (int stage = 0; stage < plan.num_stages(); ++stage) {
      const auto s = static_cast<std::size_t>(stage);
      while (next[s] < orders[s].size()) {
        const StageTask& task = orders[s][next[s]];
        const int k = virtual_stage_index(plan, {stage, task.chunk});
        const ChunkTime& time = model.table.times[static_cast<std::size_t>(k)];
        std::int64_t ready = clock[s];
        if (task.is_forward ? k > 0 : true) {
          const bool own = !task.is_forward && k == last;
          const int from = task.is_forward ? k - 1 : own ? k : k + 1;
          const auto found = ends.find({task.is_forward || own, task.microbatch, from});
          if (found == ends.end()) {
            break;
          }
          const int boundary = std::min(from, k);
          const bool moves = !own && plan.num_stages() > 1;
          ready = std::max(
              ready,
              found->second +
                  (moves ? model.table.times[static_cast<std::size_t>(boundary)].transfer : 0));
        }
        clock[s] = ready + (task.is_forward ? time.forward : time.input + time.weight);
        ends[{task.is_forward, task.microbatch, k}] = clock[s];
        ++next[s];
        progress = true;
      }
    }
  }
  return *std::max_element(clock.begin(), clock.end());
}

struct Setting {
  const char* name;
  double spread;    // of the stages' times
  double transfer;  // of the mean time of a pass, forward and backward together
  double microbatches_per_stage;
  enum class Passes { kAlike, kOwn } passes = Passes::kAlike;  // kOwn: F, B and W vary on their own
};
constexpr Setting kSettings[] = {{"equal stages, free transfers", 0, 0, 2},
                                 {"equal stages, transfers 10 %", 0, 0.1, 2},
                                 {"stages +-20 %, free transfers", 0.2, 0, 2},
                                 {"stages +-20 %, transfers 10 %", 0.2, 0.1, 2},
                                 {"the same, many micro-batches", 0.2, 0.1, 8},
                                 {"stages +-20 %, transfers 50 %", 0.2, 0.5, 2},
                                 {"stages +-20 %, few micro-batches", 0.2, 0.1, 0.5},
                                 {"each pass +-20 %", 0.2, 0.1, 2, Setting::Passes::kOwn},
                                 {"each pass +-50 %", 0.5, 0.1, 2, Setting::Passes::kOwn}};

PipelineModel random_pipeline(Schedule schedule, const Setting& setting, std::mt19937_64& random) {
  const int stages = 2 + static_cast<int>(random() % 7);
  const int chunks = schedule == Schedule::kInterleaved ? 2 : 1;
  std::uniform_real_distribution<double> factor(1 - setting.spread, 1 + setting.spread);
  std::vector<ChunkTime> times(static_cast<std::size_t>(stages * chunks));
  for (int k = 0; k < stages * chunks; ++k) {
    // Chunks of one stage are alike: the space of the planner (DESIGN section 4).
    ChunkTime& time = times[static_cast<std::size_t>(k)];
    if (k >= stages) {
      time = times[static_cast<std::size_t>(k - stages)];
      continue;
    }
    const auto pass = [&] { return std::llround(1e6 * factor(random)); };
    time.forward = pass();
    const bool is_alike = setting.passes == Setting::Passes::kAlike;
    time.input = is_alike ? time.forward : pass();
    time.weight = is_alike ? time.forward : pass();
    time.transfer = std::llround(1.5e6 * setting.transfer);
  }
  int microbatches = std::max(1, static_cast<int>(setting.microbatches_per_stage * stages));
  if (schedule == Schedule::kInterleaved) {
    microbatches = std::max(stages, microbatches / stages * stages);  // whole rounds
  }
  return pipeline_model(schedule, stages, chunks, microbatches, times);
}

TEST(FormulaTable, DifferencesToTheReplayAreThoseOfTheDocument) {
  constexpr int kCases = 60;
  constexpr std::uint64_t kSeed = 7;
  std::printf("seed %d; formula over replay - 1, mean and range in %%\n", static_cast<int>(kSeed));
  for (const Schedule schedule :
       {Schedule::kGpipe, Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kInterleaved}) {
    double band_least = 0;
    double band_most = 0;
    for (const Setting& setting : kSettings) {
      std::mt19937_64 random(kSeed);
      double sum = 0;
      double least = 1e9;
      double most = -1e9;
      for (int i = 0; i < kCases; ++i) {
        const PipelineModel model = random_pipeline(schedule, setting, random);
        const double formula = static_cast<double>(
            evaluate(model.plan, model.graph, model.cluster, model.table).step_time.count);
        const Simulation replayed = simulate(model.plan, model.graph, model.cluster, model.table);
        ASSERT_FALSE(replayed.deadlock.has_value());
        const auto replay = static_cast<double>(replayed.makespan.count);
        const auto oracle = static_cast<double>(replay_orders(model));
        if (setting.transfer == 0) {
          EXPECT_EQ(replay, oracle);
        } else {
          EXPECT_GE(replay, oracle);  // messages may also wait for each other
        }
        const double off = 100 * (formula / replay - 1);
        sum += off;
        least = std::min(least, off);
        most = std::max(most, off);
      }
      std::printf("| `%s` | %s | %+.1f | %+.1f to %+.1f |\n",
                  to_string(schedule).c_str(),
                  setting.name,
                  sum / kCases,
                  least,
                  most);
      band_least = std::min(band_least, least);
      band_most = std::max(band_most, most);
      if (setting.spread == 0 && setting.transfer == 0) {
        EXPECT_NEAR(most, 0, 1e-4);
        EXPECT_NEAR(least, 0, 1e-4);
      }
    }
    // What `plan` prints is what was measured here, rounded outwards to 0.1 %.
    const auto outwards = [](double percent) {
      const double tenths = 10 * percent;
      return (percent < 0 ? std::floor(tenths - 1e-6) : std::ceil(tenths - 1e-6)) / 1000;
    };
    EXPECT_NEAR(replay_band(schedule).least, outwards(band_least), 1e-9) << to_string(schedule);
    EXPECT_NEAR(replay_band(schedule).most, outwards(band_most), 1e-9) << to_string(schedule);
  }
}

}  // namespace
}  // namespace shardwise
