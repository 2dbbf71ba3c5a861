// Reads an instance of SHARDWISE_DATA/solver_bench: a chain of layers with k strategies each. A
// unit of time is 10^6 ps, a unit of memory 10^6 bytes: all digits of the files.
#pragma once

#include <cmath>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "planner/listed_problem.h"

namespace shardwise::testing {

inline std::optional<ListedProblem> read_solver_bench(const std::string& path) {
  std::ifstream file(path);
  int num_layers = 0;
  int num_stages = 0;
  int num_strategies = 0;
  ListedProblem problem;
  double cap = 0;
  if (!(file >> num_layers >> num_stages >> num_strategies >> problem.num_microbatches >> cap)) {
    return std::nullopt;
  }
  const auto read = [&](int rows) {
    std::vector<std::vector<std::int64_t>> matrix(static_cast<std::size_t>(rows));
    for (std::vector<std::int64_t>& row : matrix) {
      for (int i = 0; i < num_strategies; ++i) {
        double value = 0;
        file >> value;
        row.push_back(std::llround(value * 1e6));
      }
    }
    return matrix;
  };
  const auto time = read(num_layers);
  const auto memory = read(num_layers);
  using Matrix = std::vector<std::vector<std::int64_t>>;
  const auto reshard = std::make_shared<Matrix>(read(num_strategies));
  const auto crossing = std::make_shared<Matrix>(read(num_strategies));
  if (!file) {
    return std::nullopt;
  }
  problem.types = {{"device", num_stages, Bytes(std::llround(cap * 1e6))}};
  problem.meshes = {{0, 1, "one device"}};
  for (int layer = 0; layer < num_layers; ++layer) {
    std::vector<ListedOption> options;
    for (int s = 0; s < num_strategies; ++s) {
      ListedOption option;
      option.forward =
          Picoseconds(time[static_cast<std::size_t>(layer)][static_cast<std::size_t>(s)]);
      option.state = Bytes(memory[static_cast<std::size_t>(layer)][static_cast<std::size_t>(s)]);
      option.input = option.output = s;
      options.push_back(option);
    }
    problem.layers.push_back(layer);
    problem.options.push_back({options});
  }
  problem.reshard = [reshard](int, int, int from, int to) {
    return ListedMove{
        Picoseconds((*reshard)[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)]),
        Picoseconds(0)};
  };
  problem.crossing = [crossing](int, int, int from, int, int to) {
    return ListedMove{
        Picoseconds((*crossing)[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)]),
        Picoseconds(0)};
  };
  // sum p + sum o + (m - 1) max(p, o).
  problem.schedules = {Schedule::k1F1BEager};
  problem.min_stages = num_stages;
  problem.max_stages = num_stages;
  return problem;
}

}  // namespace shardwise::testing
