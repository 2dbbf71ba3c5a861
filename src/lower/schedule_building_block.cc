// V-Half and V-Min (Qi et al., NeurIPS'24, "Pipeline Parallelism with Controllable Memory", section
// 3): the passes of one micro-batch form a block that repeats every six slots of equal passes; how
// far the passes of neighbouring stages lie apart decides how long activations live, thus memory.
//
//   f0(i) = d0 i                                   f1(i) = f0(P - 1) + a + d1 (P - 1 - i)
//   b1(i) = f1(0) + c + d2 i                       b0(i) = b1(P - 1) + e + d3 (P - 1 - i)
//
// f, b forward and input part, 0, 1 the chunk, i the stage, d the distances. Sum of d: 6 lives half
// as long as 1F1B's passes (V-Half), 4 a third (V-Min). a, c, e are the smallest that keep the four
// passes of a stage in different slots. The order of a stage is that of the slots; weight parts go
// into gaps and are otherwise kept up to a number that is tried from 1 on: the one with the
// shortest span is taken. Warm-up and drain are left as they come: the paper moves passes there by
// hand.
#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <optional>
#include <utility>

#include "core/errors.h"
#include "lower/schedule_functions.h"

namespace shardwise::internal {

namespace {

constexpr int kSlots = 6;  // of a block

std::size_t at(int index) { return static_cast<std::size_t>(index); }

struct Distances {
  int forward_0, forward_1, input_1, input_0;
};
struct Turns {
  int forward, loss, input;  // a, c, e
};

// Slots of the four passes of micro-batch 0: forward 0, forward 1, input 1, input 0.
std::array<int, 4> slots_of(int stages, int stage, const Distances& d, const Turns& turns) {
  const int last = stages - 1;
  const int forward_1 = d.forward_0 * last + turns.forward;         // on the last stage
  const int input_1 = forward_1 + d.forward_1 * last + turns.loss;  // on the first
  const int input_0 = input_1 + d.input_1 * last + turns.input;     // on the last
  return {d.forward_0 * stage,
          forward_1 + d.forward_1 * (last - stage),
          input_1 + d.input_1 * stage,
          input_0 + d.input_0 * (last - stage)};
}

bool collides(int stages, const Distances& d, const Turns& turns) {
  for (int stage = 0; stage < stages; ++stage) {
    std::array<bool, kSlots> is_taken{};
    for (const int slot : slots_of(stages, stage, d, turns)) {
      if (std::exchange(is_taken[at(slot % kSlots)], true)) {
        return true;
      }
    }
  }
  return false;
}

Turns smallest_turns(int stages, const Distances& d) {
  for (int sum = 3; sum <= 3 * kSlots; ++sum) {
    for (int forward = 1; forward <= sum - 2; ++forward) {
      for (int loss = 1; loss <= sum - forward - 1; ++loss) {
        const Turns turns{forward, loss, sum - forward - loss};
        if (!collides(stages, d, turns)) {
          return turns;
        }
      }
    }
  }
  SHARDWISE_CHECK(false, "some turns keep the passes apart");
}

// Forward and input tasks of a stage in the order of their slots.
StageOrder passes_of(const PipelineShape& shape,
                     int stage,
                     const Distances& d,
                     const Turns& turns) {
  const std::array<int, 4> slots = slots_of(shape.num_stages, stage, d, turns);
  std::vector<std::pair<int, StageTask>> passes;
  for (int j = 0; j < shape.num_microbatches; ++j) {
    passes.emplace_back(slots[0] + kSlots * j, forward_task(j, 0));
    passes.emplace_back(slots[1] + kSlots * j, forward_task(j, 1));
    passes.emplace_back(slots[2] + kSlots * j, input_task(j, 1));
    passes.emplace_back(slots[3] + kSlots * j, input_task(j, 0));
  }
  std::stable_sort(
      passes.begin(), passes.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  StageOrder order;
  for (const auto& [slot, task] : passes) {
    order.push_back(task);
  }
  return order;
}

// Runs the passes by the given times and puts weight parts between them.
class WeightPlacer {
 public:
  WeightPlacer(const PipelineShape& shape, const std::vector<StageOrder>& passes, int most_kept)
      : shape_(shape),
        passes_(passes),
        most_kept_(at(most_kept)),
        states_(passes.size()),
        forward_end_(2 * passes.size()),
        input_end_(2 * passes.size()) {
    orders_.resize(passes.size());
  }

  // The longest span of a stage.
  double place() {
    while (const std::optional<int> stage = next_stage()) {
      run(*stage);
    }
    double longest = 0;
    for (std::size_t s = 0; s < states_.size(); ++s) {
      Stage& state = states_[s];
      SHARDWISE_CHECK(state.next == passes_[s].size(), "blocks do not deadlock");
      while (!state.kept.empty()) {
        run_weight(s);
      }
      longest = std::max(longest, state.clock - state.begin);
    }
    return longest;
  }

  std::vector<StageOrder> take() { return std::move(orders_); }

 private:
  struct Stage {
    std::size_t next = 0;
    double clock = 0;
    double begin = 0;
    std::deque<StageTask> kept;
  };

  int index(std::size_t stage, const StageTask& task) const {
    return index_in_v(shape_.num_stages, {static_cast<int>(stage), task.chunk});
  }

  // When the next pass of a stage may start; nothing if its tensor is not known yet.
  std::optional<double> next_begin(std::size_t s) const {
    const Stage& state = states_[s];
    if (state.next == passes_[s].size()) {
      return std::nullopt;
    }
    const StageTask& task = passes_[s][state.next];
    const int k = index(s, task);
    const int last = 2 * shape_.num_stages - 1;
    const bool from_forward = task.is_forward || k == last;
    const int from = task.is_forward ? k - 1 : std::min(k + 1, last);
    if (from < 0) {
      return state.clock;
    }
    const std::vector<double>& ends = (from_forward ? forward_end_ : input_end_)[at(from)];
    if (at(task.microbatch) >= ends.size()) {
      return std::nullopt;
    }
    const bool moves = place_in_v(shape_.num_stages, from).stage != static_cast<int>(s);
    const double transfer = moves ? shape_.times_of(std::min(from, k)).transfer : 0;
    return std::max(state.clock, ends[at(task.microbatch)] + transfer);
  }

  std::optional<int> next_stage() const {
    std::optional<int> best;
    double earliest = std::numeric_limits<double>::infinity();
    for (std::size_t s = 0; s < states_.size(); ++s) {
      const std::optional<double> begin = next_begin(s);
      if (begin && *begin < earliest) {
        earliest = *begin;
        best = static_cast<int>(s);
      }
    }
    return best;
  }

  void run_weight(std::size_t s) {
    Stage& state = states_[s];
    state.clock += shape_.times_of(index(s, state.kept.front())).weight;
    orders_[s].push_back(state.kept.front());
    state.kept.pop_front();
  }

  void run(int stage) {
    const std::size_t s = at(stage);
    Stage& state = states_[s];
    const double begin = *next_begin(s);
    while (!state.kept.empty()) {
      const double weight = shape_.times_of(index(s, state.kept.front())).weight;
      if (begin - state.clock < weight * (1 - 1e-6) && state.kept.size() <= most_kept_) {
        break;
      }
      run_weight(s);
    }
    const StageTask& task = passes_[s][state.next++];
    const PassTimes time = shape_.times_of(index(s, task));
    state.begin = orders_[s].empty() ? begin : state.begin;
    state.clock = std::max(begin, state.clock) + (task.is_forward ? time.forward : time.input);
    orders_[s].push_back(task);
    (task.is_forward ? forward_end_ : input_end_)[at(index(s, task))].push_back(state.clock);
    if (!task.is_forward) {
      state.kept.push_back(weight_task(task.microbatch, task.chunk));
    }
  }

  const PipelineShape& shape_;
  const std::vector<StageOrder>& passes_;
  const std::size_t most_kept_;
  std::vector<Stage> states_;
  std::vector<std::vector<double>> forward_end_;  // by virtual stage, micro-batch
  std::vector<std::vector<double>> input_end_;
  std::vector<StageOrder> orders_;
};

constexpr int kMostKept = 2;

std::vector<StageOrder> block_orders(const PipelineShape& shape, const Distances& distances) {
  SHARDWISE_CHECK(shape.num_chunks == 2, "a V has two chunks");
  const Turns turns = smallest_turns(shape.num_stages, distances);
  std::vector<StageOrder> passes;
  passes.reserve(static_cast<std::size_t>(shape.num_stages));
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    passes.push_back(passes_of(shape, stage, distances, turns));
  }
  std::vector<StageOrder> best;
  double shortest = std::numeric_limits<double>::infinity();
  for (int most_kept = 1; most_kept <= kMostKept; ++most_kept) {
    WeightPlacer placer(shape, passes, most_kept);
    const double span = placer.place();
    if (span < shortest * (1 - 1e-9)) {
      shortest = span;
      best = placer.take();
    }
  }
  return best;
}

}  // namespace

std::vector<StageOrder> v_half_orders(const PipelineShape& shape) {
  return block_orders(shape, {2, 1, 2, 1});
}

std::vector<StageOrder> v_min_orders(const PipelineShape& shape) {
  return block_orders(shape, {1, 1, 1, 1});
}

}  // namespace shardwise::internal
