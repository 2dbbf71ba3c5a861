#include "lower/schedule_list.h"

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

#include "lower/schedule_functions.h"

namespace shardwise::internal {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kTolerance = 1e-9;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

class ListScheduler {
 public:
  ListScheduler(const PipelineShape& shape, double memory_limit, const ListRules& rules)
      : shape_(shape),
        stages_(shape.num_stages),
        chunks_(shape.num_chunks),
        limit_(memory_limit),
        rules_(rules),
        states_(at(stages_)),
        forward_end_(at(stages_ * chunks_)),
        input_end_(at(stages_ * chunks_)) {
    result_.orders.resize(at(stages_));
    double shortest = kNever;
    for (int k = 0; k < stages_ * chunks_; ++k) {
      times_.push_back(shape.times_of(k));
      const PassTimes& time = times_.back();
      for (const double part : {time.forward, time.input, time.weight}) {
        shortest = part > 0 ? std::min(shortest, part) : shortest;
      }
    }
    tolerance_ = shortest < kNever ? shortest * kTolerance : kTolerance;
  }

  std::optional<ListSchedule> run() {
    for (int s = 0; s < stages_; ++s) {
      wakes_.push({0, s});
    }
    while (!wakes_.empty()) {
      const auto [time, stage] = wakes_.top();
      wakes_.pop();
      if (time >= states_[at(stage)].free_at - tolerance_) {
        act(stage, time);
      }
    }
    for (int s = 0; s < stages_; ++s) {
      const Stage& state = states_[at(s)];
      if (state.order_length < 3 * shape_.num_microbatches * chunks_) {
        return std::nullopt;
      }
      result_.longest_span = std::max(result_.longest_span, state.free_at - state.begin);
      result_.makespan = std::max(result_.makespan, state.free_at);
    }
    return std::move(result_);
  }

 private:
  struct Stage {
    double free_at = 0;
    double begin = 0;
    double in_flight = 0;
    int order_length = 0;
    std::array<int, 2> forwards{0, 0};  // done, by chunk
    std::array<int, 2> inputs{0, 0};
    std::deque<StageTask> kept;  // weight parts to come
  };

  int index(int stage, int chunk) const { return index_in_v(stages_, {stage, chunk}); }

  // When a task's tensor is there; kNever: not known yet.
  double arrival(const std::vector<std::vector<double>>& ends, int from, int to, int microbatch) {
    const std::vector<double>& known = ends[at(from)];
    if (microbatch >= static_cast<int>(known.size())) {
      return kNever;
    }
    const bool moves = place_in_v(stages_, from).stage != place_in_v(stages_, to).stage;
    return known[at(microbatch)] + (moves ? times_[at(std::min(from, to))].transfer : 0);
  }
  double forward_arrival(int stage, int chunk) {
    const int k = index(stage, chunk);
    const int next = states_[at(stage)].forwards[at(chunk)];
    if (next >= shape_.num_microbatches) {
      return kNever;
    }
    return k == 0 ? 0 : arrival(forward_end_, k - 1, k, next);
  }
  double input_arrival(int stage, int chunk) {
    const int k = index(stage, chunk);
    const int next = states_[at(stage)].inputs[at(chunk)];
    if (next >= shape_.num_microbatches) {
      return kNever;
    }
    return k + 1 == stages_ * chunks_ ? arrival(forward_end_, k, k, next)
                                      : arrival(input_end_, k + 1, k, next);
  }

  bool fits(int stage, int chunk) const {
    const Stage& state = states_[at(stage)];
    const double free = limit_ - state.in_flight - 1 + kTolerance;
    if (chunk + 1 == chunks_ && chunk > 0) {
      return free >= 0;
    }
    const double reserve = chunks_ > 1 ? rules_.reserve[at(stage)] : 0;
    return free >= reserve && state.forwards[0] - state.inputs[0] < rules_.most_ahead[at(stage)];
  }

  // What may start at `now`, and when else something comes.
  struct Choice {
    int forward = -1;  // chunk
    int input = -1;    // chunk
    bool forward_lacks_memory = false;
    double next_forward = kNever;  // that fits
    double next_input = kNever;
  };
  Choice look(int stage, double now) {
    Choice choice;
    const Stage& state = states_[at(stage)];
    for (int chunk = 0; chunk < chunks_; ++chunk) {
      const double forward = forward_arrival(stage, chunk);
      const bool is_there = forward <= now + tolerance_;
      if (!fits(stage, chunk)) {
        choice.forward_lacks_memory |= is_there;
      } else {
        choice.next_forward = std::min(choice.next_forward, forward);
        choice.forward = is_there ? chunk : choice.forward;
      }
      const double input = input_arrival(stage, chunk);
      choice.next_input = std::min(choice.next_input, input);
      if (input <= now + tolerance_) {
        const bool leads_enough =
            choice.input == 0 && state.inputs[1] - state.inputs[0] > rules_.backward_lead;
        choice.input = leads_enough ? 0 : chunk;
      }
    }
    return choice;
  }

  void act(int stage, double now) {
    const Stage& state = states_[at(stage)];
    const Choice choice = look(stage, now);
    const bool wants_forward =
        choice.forward >= 0 &&
        (choice.input < 0 || state.forwards[0] - state.inputs[0] < rules_.least_ahead[at(stage)]);
    if (choice.input >= 0 && !wants_forward) {
      return start(stage, now, input_task(state.inputs[at(choice.input)], choice.input));
    }
    double gap_end = std::min(choice.next_forward, choice.next_input);
    bool waits = true;
    if (wants_forward) {
      const int k = index(stage, choice.forward);
      const bool is_in_the_way = choice.input < 0 && rules_.keeps_free_for_backward &&
                                 choice.next_input < now + times_[at(k)].forward - tolerance_;
      if (!is_in_the_way) {
        return start(stage, now, forward_task(state.forwards[at(choice.forward)], choice.forward));
      }
      gap_end = choice.next_input;
      waits = false;
    }
    if (!state.kept.empty()) {
      const StageTask& weight = state.kept.front();
      const double wanted = rules_.least_gap * times_[at(index(stage, weight.chunk))].weight;
      if (gap_end - now >= wanted - tolerance_ || (waits && choice.forward_lacks_memory)) {
        return start(stage, now, weight);
      }
    }
    if (gap_end < kNever) {
      wakes_.push({std::max(gap_end, now), stage});
    }
  }

  void start(int stage, double now, StageTask task) {
    Stage& state = states_[at(stage)];
    const int k = index(stage, task.chunk);
    const PassTimes& time = times_[at(k)];
    state.begin = state.order_length == 0 ? now : state.begin;
    ++state.order_length;
    result_.orders[at(stage)].push_back(task);
    if (task.is_forward) {
      state.free_at = now + time.forward;
      ++state.forwards[at(task.chunk)];
      state.in_flight += 1;
      forward_end_[at(k)].push_back(state.free_at);
      wake_neighbour(k + 1, state.free_at + time.transfer);
    } else if (task.part == BackwardPart::kInput) {
      state.free_at = now + time.input;
      ++state.inputs[at(task.chunk)];
      state.in_flight -= 1 - time.weight_memory;
      state.kept.push_back(weight_task(task.microbatch, task.chunk));
      input_end_[at(k)].push_back(state.free_at);
      wake_neighbour(k - 1, k > 0 ? state.free_at + times_[at(k - 1)].transfer : 0);
    } else {
      state.free_at = now + time.weight;
      state.in_flight -= time.weight_memory;
      state.kept.pop_front();
    }
    wakes_.push({state.free_at, stage});
  }

  void wake_neighbour(int k, double time) {
    if (k >= 0 && k < stages_ * chunks_) {
      wakes_.push({time, place_in_v(stages_, k).stage});
    }
  }

  const PipelineShape& shape_;
  const int stages_;
  const int chunks_;
  const double limit_;
  const ListRules& rules_;
  double tolerance_ = kTolerance;
  std::vector<PassTimes> times_;  // by virtual stage
  std::vector<Stage> states_;
  std::vector<std::vector<double>> forward_end_;  // by virtual stage, micro-batch
  std::vector<std::vector<double>> input_end_;
  using Wake = std::pair<double, int>;
  std::priority_queue<Wake, std::vector<Wake>, std::greater<>> wakes_;
  ListSchedule result_;
};

}  // namespace

std::optional<ListSchedule> list_schedule(const PipelineShape& shape,
                                          double memory_limit,
                                          const ListRules& rules) {
  return ListScheduler(shape, memory_limit, rules).run();
}

}  // namespace shardwise::internal
