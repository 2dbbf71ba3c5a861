// Solves instances of SHARDWISE_DATA/solver_bench with the search of shardwise plan; one line each:
// name, seconds, optimum, lower bound, in the files' unit of time.
//
//   solver_bench FILE.dat...
#include <fmt/format.h>

#include <chrono>

#include "planner/solver_bench_testing.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto problem = shardwise::testing::read_solver_bench(argv[i]);
    if (!problem) {
      fmt::print(stderr, "{}: expected an instance of the solver bench\n", argv[i]);
      return 2;
    }
    const shardwise::ListedResult result = shardwise::find_listed_plan(*problem);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    fmt::print("{} {:.4f} {:.6f} {:.6f}\n",
               argv[i],
               time.count(),
               1e-6 * static_cast<double>(result.step_time.count),
               1e-6 * static_cast<double>(result.lower_bound.count));
  }
  return 0;
}
