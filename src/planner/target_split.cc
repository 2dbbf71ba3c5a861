#include "planner/target_split.h"

#include <algorithm>

namespace shardwise::planning {

namespace {

struct Label {
  SplitCost cost;
  int begin = 0;     // of the last stage
  int previous = 0;  // label of the stages before it
};

bool is_beaten(const SplitCost& a, const SplitCost& by) {
  return by.sum <= a.sum && by.first_period <= a.first_period &&
         by.second_period <= a.second_period && by.per_step <= a.per_step;
}

SplitCost joined(const SplitCost& a, const SplitCost& b) {
  return {a.sum + b.sum,
          std::max(a.first_period, b.first_period),
          std::max(a.second_period, b.second_period),
          std::max(a.per_step, b.per_step)};
}

void keep(std::vector<Label>& labels, const Label& label) {
  for (const Label& other : labels) {
    if (is_beaten(label.cost, other.cost)) {
      return;
    }
  }
  std::erase_if(labels, [&](const Label& other) { return is_beaten(other.cost, label.cost); });
  labels.push_back(label);
}

}  // namespace

std::optional<Split> best_split(const SplitProblem& problem, std::int64_t cutoff) {
  const auto layers = static_cast<std::size_t>(problem.num_layers);
  const int stages = problem.num_stages;
  // [stage][end]: stages 0 .. stage hold layers [0, end). Labels are never removed once a later
  // stage refers to them: a stage is finished before the next one begins.
  std::vector<std::vector<std::vector<Label>>> labels(static_cast<std::size_t>(stages),
                                                      std::vector<std::vector<Label>>(layers + 1));
  for (int stage = 0; stage < stages; ++stage) {
    const int most_end = problem.num_layers - (stages - 1 - stage);
    const int least_end = stage + 1 == stages ? problem.num_layers : stage + 1;
    for (int end = least_end; end <= most_end; ++end) {
      std::vector<Label>& here =
          labels[static_cast<std::size_t>(stage)][static_cast<std::size_t>(end)];
      for (int begin = stage == 0 ? 0 : end - 1; begin >= stage; --begin) {
        static const std::vector<Label> kStart(1);
        const std::vector<Label>& before =
            stage == 0
                ? kStart
                : labels[static_cast<std::size_t>(stage - 1)][static_cast<std::size_t>(begin)];
        if (before.empty()) {
          continue;
        }
        const std::optional<SplitCost> own = problem.cost(stage, begin, end);
        for (int i = 0; own && i < static_cast<int>(before.size()); ++i) {
          const SplitCost all = joined(before[static_cast<std::size_t>(i)].cost, *own);
          if (problem.step(all) < cutoff) {
            keep(here, {all, begin, i});
          }
        }
      }
    }
  }
  const std::vector<Label>& done = labels.back().back();
  if (done.empty()) {
    return std::nullopt;
  }
  const auto best = std::min_element(done.begin(), done.end(), [&](const Label& a, const Label& b) {
    return problem.step(a.cost) < problem.step(b.cost);
  });
  Split split;
  split.step = problem.step(best->cost);
  Label label = *best;
  int end = problem.num_layers;
  for (int stage = stages - 1; stage >= 0; --stage) {
    split.counts.insert(split.counts.begin(), end - label.begin);
    end = label.begin;
    if (stage > 0) {
      label = labels[static_cast<std::size_t>(stage - 1)][static_cast<std::size_t>(end)]
                    [static_cast<std::size_t>(label.previous)];
    }
  }
  return split;
}

}  // namespace shardwise::planning
