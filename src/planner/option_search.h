// Options of one block on one stage shape: complete ways to run a layer there. Two questions:
//   - the least weighted cost between each pair of boundary layouts (a bound, fast);
//   - all options within a limit of weighted cost that no other option beats.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "planner/block_costs.h"
#include "planner/deadline.h"
#include "planner/elimination.h"

namespace shardwise::planning {

inline constexpr int kMaxOps = 32;

// value = time * (forward + backward) + step * per_step + memory * (state + in_flight * saved)
struct Weights {
  double time = 1;
  double step = 1;
  double memory = 0;
  int in_flight = 1;

  double of(const Cost& cost) const {
    return time * static_cast<double>(cost.time()) + step * static_cast<double>(cost.per_step) +
           memory * static_cast<double>(cost.state + in_flight * cost.saved);
  }
  auto operator<=>(const Weights&) const = default;
};

struct Matrix {
  int rows = 0;
  int columns = 0;
  std::vector<double> values;

  Matrix() = default;
  Matrix(int num_rows, int num_columns, double value)
      : rows(num_rows),
        columns(num_columns),
        values(static_cast<std::size_t>(num_rows) * static_cast<std::size_t>(num_columns), value) {}
  double& operator()(int row, int column) {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
  double operator()(int row, int column) const {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
};

struct Option {
  Cost cost;
  Mode mode;
  int input = 0;
  int output = 0;
  // Peak of temporary memory; a lower bound unless `is_transient_exact`.
  std::int64_t transient = 0;
  bool is_transient_exact = false;
  bool saves_input = false;
  bool saves_output = false;
  int signature = -1;  // BlockCosts::signature of the tied op
  std::array<std::uint8_t, kMaxOps> choices{};
};

// The plan of a layer that runs the option.
LayerPlan layer_plan_of(const BlockCosts& costs, const Option& option);
// Peak of temporary memory, from the layer's body.
std::int64_t exact_transient(const BlockCosts& costs, const Option& option);
// Sums up the costs of a complete assignment; nothing if padding forbids it.
std::optional<Option> make_option(const BlockCosts& costs,
                                  const Mode& mode,
                                  int input,
                                  int output,
                                  const std::vector<int>& choices);

// Least weighted cost over modes, [input][output]; kForbidden where there is no option. A bound:
// conversions that several uses share count in equal parts (exact where they agree).
struct BlockBound {
  Matrix minimum;
  std::vector<int> mode;  // index into the modes that reach it, row-major
};
BlockBound bound_block(const BlockCosts& costs,
                       const std::vector<Mode>& modes,
                       const Weights& weights);
// An option that reaches the bound, but for what sharing costs.
std::optional<Option> minimiser(
    const BlockCosts& costs, const Mode& mode, const Weights& weights, int input, int output);

// Which options one option beats: those that are nowhere better in what is compared.
struct Criteria {
  // Compare `joint_time` * (forward + backward) + per_step instead of both.
  std::int64_t joint_time = 0;  // 0: both
  bool splits_forward = false;  // forward and backward apart
  bool memory = true;           // state + in_flight * saved, transient memory, what is shared
  int in_flight = 1;
  // Compare state and saved activations apart: unequal chunks do not hold in_flight times saved.
  bool splits_memory = false;
  // Keep every option: dominance cannot see the exact transient memory.
  bool keeps_all = false;
  std::size_t most_labels = 2'000'000;  // give up beyond
  const Deadline* deadline = nullptr;   // checked if not null
};

struct OptionSet {
  std::vector<Option> options;
  bool is_complete = true;  // false: gave up at Criteria::most_labels
};

// All options with weighted cost <= limit(input, output) that no other beats.
OptionSet find_options(const BlockCosts& costs,
                       const std::vector<Mode>& modes,
                       const Weights& weights,
                       const Matrix& limit,
                       const Criteria& criteria);

}  // namespace shardwise::planning
