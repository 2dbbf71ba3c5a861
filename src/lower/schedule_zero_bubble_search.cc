// ZB-1p, ZB-2p and ZB-V: the best list schedule (schedule_list.h) of a small grid of rules. Best:
// the shortest longest span of a stage, which is what counts when the optimizer need not wait for
// all stages (Qi et al., section 4), then the shortest makespan, then the first in the order of the
// grid.
#include <algorithm>
#include <optional>

#include "core/errors.h"
#include "lower/schedule_functions.h"
#include "lower/schedule_list.h"

namespace shardwise::internal {

namespace {

class BestSchedule {
 public:
  BestSchedule(const PipelineShape& shape, double memory_limit)
      : shape_(shape), limit_(memory_limit) {}

  void try_rules(const ListRules& rules) {
    std::optional<ListSchedule> found = list_schedule(shape_, limit_, rules);
    if (found && (!best_ || is_better(*found, *best_))) {
      best_ = std::move(found);
    }
  }

  std::vector<StageOrder> take() {
    SHARDWISE_CHECK(best_.has_value(), "some rule leads to the end");
    return std::move(best_->orders);
  }

 private:
  // Spans of equal schedules differ by rounding.
  static bool is_better(const ListSchedule& a, const ListSchedule& b) {
    const double noise = 1e-9 * b.longest_span;
    if (a.longest_span < b.longest_span - noise) {
      return true;
    }
    return a.longest_span < b.longest_span + noise && a.makespan < b.makespan - noise;
  }

  const PipelineShape& shape_;
  const double limit_;
  std::optional<ListSchedule> best_;
};

// `by_stage(later)`: a number for each stage, from the stages after it.
template <typename ByStage>
auto for_each_stage(int stages, ByStage by_stage) {
  std::vector<decltype(by_stage(0))> values;
  values.reserve(static_cast<std::size_t>(stages));
  for (int stage = 0; stage < stages; ++stage) {
    values.push_back(by_stage(stages - 1 - stage));
  }
  return values;
}

constexpr double kGaps[] = {1.0, 0.6, 0.0};

// How far a stage runs ahead: factor * (later + 1) + offset micro-batches, at most the limit.
struct Ahead {
  double factor;
  int offset;
};
constexpr Ahead kAhead[] = {{1, 0}, {1, 1}, {1.5, 0}, {2, -1}, {2, 0}, {2, 1}, {100, 0}};

std::vector<StageOrder> search_row(const PipelineShape& shape, int limit) {
  BestSchedule best(shape, limit);
  ListRules rules;
  for (const double gap : kGaps) {
    for (const bool keeps_free : {false, true}) {
      for (const Ahead& ahead : kAhead) {
        rules.least_gap = gap;
        rules.keeps_free_for_backward = keeps_free;
        rules.most_ahead = for_each_stage(shape.num_stages, [&](int later) {
          const int wanted = static_cast<int>(ahead.factor * (later + 1)) + ahead.offset;
          return std::clamp(wanted, 1, limit);
        });
        rules.least_ahead = for_each_stage(shape.num_stages, [&](int later) {
          const int most = rules.most_ahead[static_cast<std::size_t>(shape.num_stages - 1 - later)];
          return std::min(most, later + 1);
        });
        best.try_rules(rules);
      }
    }
  }
  return best.take();
}

}  // namespace

std::vector<StageOrder> zero_bubble_1p_orders(const PipelineShape& shape) {
  return search_row(shape, shape.num_stages);
}

std::vector<StageOrder> zero_bubble_2p_orders(const PipelineShape& shape) {
  return search_row(shape, 2 * shape.num_stages);
}

std::vector<StageOrder> zero_bubble_v_orders(const PipelineShape& shape) {
  SHARDWISE_CHECK(shape.num_chunks == 2, "ZB-V has two chunks");
  const int stages = shape.num_stages;
  BestSchedule best(shape, 2 * stages);
  ListRules rules;
  rules.most_ahead = for_each_stage(stages, [&](int) { return 2 * stages; });
  rules.least_ahead = for_each_stage(stages, [](int) { return 0; });
  for (const double gap : kGaps) {
    for (const int lead : {0, 1}) {
      rules.least_gap = gap;
      rules.backward_lead = lead;
      for (const double slope : {0.0, 1.0}) {
        for (const double offset : {0.0, 1.0}) {
          rules.reserve = for_each_stage(stages, [&](int later) { return slope * later + offset; });
          best.try_rules(rules);
        }
      }
    }
  }
  return best.take();
}

}  // namespace shardwise::internal
