// Step times of Korthikanti et al., 2022, table 5, with the systems of Calculon.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "calculon_cases.h"
#include "cost/evaluate.h"
#include "io/calculon_system.h"

namespace shardwise {
namespace {

double mean_error(const std::string& name) {
  const CalculonSystem system =
      read_calculon_system(calculon::folder() + "systems/" + name + ".json");
  double sum = 0;
  int count = 0;
  for (const calculon::Case& wanted : calculon::cases_of("tab5")) {
    calculon::Run run = calculon::run_of(wanted);
    const Cluster cluster = system.cluster(run.layout.grid.world());
    const CalculonTable table(system, cluster, run.execution);
    const Graph graph = run_graph(run.shape, run.layout);
    const Evaluation found = evaluate(run_plan(graph, run.layout), graph, cluster, table);
    const double error = to_seconds(found.step_time).count / wanted.value - 1;
    fmt::print("  {} {} {}: {}, published {:.2f} s, {:+.1f} %\n",
               name,
               wanted.model,
               wanted.mode,
               format_seconds(to_seconds(found.step_time)),
               wanted.value,
               100 * error);
    sum += std::abs(error);
    ++count;
  }
  fmt::print("{}: step time {:.2f} % off on average\n", name, 100 * sum / count);
  return sum / count;
}

TEST(Calculon, StepTimesOfTableFive) {
  SKIP_WITHOUT_CALCULON();
  EXPECT_LE(mean_error("a100_80g"), 0.035);
  EXPECT_LE(mean_error("a100_80e"), 0.05);
}

}  // namespace
}  // namespace shardwise
