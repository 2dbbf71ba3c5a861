// Options of a layer on the devices of a stage: costs, and the questions a search asks about many
// options at once.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "graph/plan.h"
#include "planner/deadline.h"

namespace shardwise::planning {

// Additive costs, in picoseconds and bytes.
struct Cost {
  std::int64_t forward = 0;   // of one micro-batch
  std::int64_t backward = 0;  // of one micro-batch, all the rest of p_i
  std::int64_t per_step = 0;
  std::int64_t state = 0;  // weights, gradients, optimizer
  std::int64_t saved = 0;  // activations of one micro-batch

  Cost& operator+=(const Cost& other) {
    forward += other.forward;
    backward += other.backward;
    per_step += other.per_step;
    state += other.state;
    saved += other.saved;
    return *this;
  }
  friend Cost operator+(Cost a, const Cost& b) { return a += b; }
  std::int64_t time() const { return forward + backward; }
  bool operator==(const Cost&) const = default;
};

// How the layer's tied parameter (graph/tied.h), if it has one, takes part in the tie.
enum class TieRole { kNone, kSharedAlias, kExchangedOwner, kExchangedAlias };

// What a layer decides besides its ops' choices.
struct Mode {
  StateSharding sharding = StateSharding::kNone;
  Recompute recompute = Recompute::kNone;
  TieRole role = TieRole::kNone;

  auto operator<=>(const Mode&) const = default;
};

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
  std::size_t place(int row, int column) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) +
           static_cast<std::size_t>(column);
  }
  double& operator()(int row, int column) { return values[place(row, column)]; }
  double operator()(int row, int column) const { return values[place(row, column)]; }
};

struct Option {
  Cost cost;
  Mode mode;
  int input = 0;
  int output = 0;
  // What the layer needs beyond state and activations; a lower bound unless `is_transient_exact`.
  std::int64_t transient = 0;
  bool is_transient_exact = false;
  bool saves_input = false;
  bool saves_output = false;
  int signature = -1;  // BlockCosts::signature of the tied op
  // What it is: a choice for each op of a graph's block, or a place in a list.
  std::array<std::uint8_t, kMaxOps> choices{};
  int listed = -1;
};

// Least weighted cost over modes, [input][output]; kForbidden where there is no option. A bound.
struct BlockBound {
  Matrix minimum;
  std::vector<int> mode;  // index into the modes that reach it, row-major
};
// Which options one option beats: those that are nowhere better in what is compared.
struct Criteria {
  // Compare `joint_time` * (forward + backward) + per_step instead of both.
  std::int64_t joint_time = 0;  // 0: both
  bool splits_forward = false;  // forward and backward apart
  bool memory = true;           // held = state + in_flight * saved, transient, what is shared
  int in_flight = 1;
  // Compare state and saved activations apart: unequal chunks do not hold in_flight times saved.
  bool splits_memory = false;
  // With that, for a layer that not every chunk has: only equally much saved compares.
  bool compares_equal_saved = false;
  // Keep every option: dominance cannot see the exact transient memory.
  bool keeps_all = false;
  std::size_t most_labels = 2'000'000;  // give up beyond
  const Deadline* deadline = nullptr;   // checked if not null
};

// Whether a stage that holds cost `a` in place of `b` holds no more, whatever else it holds: with k
// micro-batches in flight, and for layers before that need for a while what this one has freed,
//   state + k saved,  state + (k - 1) saved.
inline bool holds_less(const Cost& a, const Cost& b, const Criteria& criteria) {
  if (criteria.splits_memory) {
    return a.state <= b.state &&
           (criteria.compares_equal_saved ? a.saved == b.saved : a.saved <= b.saved);
  }
  const int k = criteria.in_flight;
  return a.state + k * a.saved <= b.state + k * b.saved &&
         a.state + (k - 1) * a.saved <= b.state + (k - 1) * b.saved;
}
// Then: how much more transient memory `a` may need than `b` while the stage needs no more.
inline std::int64_t spared(const Cost& a, const Cost& b, const Criteria& criteria) {
  return b.state - a.state +
         (criteria.splits_memory ? 1 : criteria.in_flight) * (b.saved - a.saved);
}

struct OptionSet {
  std::vector<Option> options;
  bool is_complete = true;  // false: gave up at Criteria::most_labels
};

}  // namespace shardwise::planning
