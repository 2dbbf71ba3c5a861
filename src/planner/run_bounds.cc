#include "planner/run_bounds.h"

#include <algorithm>
#include <set>

namespace shardwise::planning {

RunBounds::RunBounds(Problem& problem,
                     StageSearch& stages,
                     const std::vector<PlaceClass>& classes,
                     const std::vector<double>& layer_work,
                     const PipelineShape& shape)
    : problem_(problem),
      stages_(stages),
      classes_(classes),
      space_(problem, stages.chain(), shape),
      values_before_{0} {
  for (const double work : layer_work) {
    values_before_.push_back(values_before_.back() + work);
  }
}

// By value. Each run of equal blocks once.
std::vector<std::pair<int, int>> RunBounds::find_runs(Runs runs) const {
  const int size = static_cast<int>(values_before_.size()) - 1;
  std::vector<std::pair<int, int>> all;
  const auto add = [&](int begin, int end, int others) {
    if (space_.is_run(begin, end, others)) {
      all.emplace_back(begin, end);
    }
  };
  switch (runs) {
    case Runs::kWhole:
      add(0, size, 0);
      break;
    case Runs::kFirst:
      for (int end = 1; end < size; ++end) {
        add(0, end, 0);
      }
      break;
    case Runs::kLast:
      for (int begin = 1; begin < size; ++begin) {
        add(begin, size, 1);
      }
      break;
    case Runs::kInner: {
      std::set<std::pair<int, int>> distinct;
      for (int begin = 1; begin < size; ++begin) {
        for (int end = begin + 1; end < size; ++end) {
          const StageKey key = space_.key_of(0, 0, begin, end);
          distinct.emplace(key.begin, key.end);
        }
      }
      all.assign(distinct.begin(), distinct.end());
    }
  }
  std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
    return value_of(a.first, a.second) < value_of(b.first, b.second);
  });
  return all;
}

std::vector<RunBounds::Choice>& RunBounds::of(Runs runs, int in_flight, double step_weight) {
  const auto [found, is_new_kind] = runs_.try_emplace(runs);
  if (is_new_kind) {
    found->second = find_runs(runs);
  }
  const auto [entry, is_new] = choices_.try_emplace({runs, in_flight, step_weight});
  if (is_new) {
    entry->second = new_choices(in_flight, step_weight);
  }
  for (Choice& choice : entry->second) {
    std::size_t changes = 1;
    for (const StageSearch::Family* family : choice.families) {
      changes += stages_.changes(*family);
    }
    if (changes != choice.changes) {
      choice.changes = 0;  // should a deadline end it
      find_items(choice, found->second);
      choice.changes = changes;
    }
  }
  return entry->second;
}

std::vector<RunBounds::Choice> RunBounds::new_choices(int in_flight, double step_weight) {
  std::vector<Choice> choices;
  for (const PlaceClass& place : classes_) {
    Choice& choice = choices.emplace_back();
    choice.place = &place;
    for (const int shape : place.shapes) {
      StageKey key;
      key.shape = shape;
      key.in_flight = in_flight;
      choice.families.push_back(&stages_.family(key, step_weight));
    }
  }
  return choices;
}

void RunBounds::find_items(Choice& choice, const std::vector<std::pair<int, int>>& runs) {
  std::vector<Item>& items = choice.items;
  items.clear();
  choice.hull.clear();
  choice.num_below = 0;
  for (const auto& [begin, end] : runs) {
    problem_.deadline().check();
    Item item{value_of(begin, end), kForbidden, begin, end};
    for (StageSearch::Family* family : choice.families) {
      item.cost = std::min(item.cost, stages_.bound(*family, begin, end));
    }
    if (item.cost == kForbidden) {
      continue;
    }
    while (!items.empty() && items.back().cost >= item.cost) {
      items.pop_back();
    }
    if (items.empty() || items.back().value < item.value) {
      items.push_back(item);
    }
  }
}

void RunBounds::keep_below(double most, Choice& choice) {
  const auto end = std::partition_point(choice.items.begin(),
                                        choice.items.end(),
                                        [&](const Item& item) { return item.cost <= most; });
  const auto num_below = static_cast<std::size_t>(end - choice.items.begin());
  if (num_below == choice.num_below) {
    return;
  }
  choice.num_below = num_below;
  std::vector<Item>& hull = choice.hull;
  hull.clear();
  for (auto item = choice.items.begin(); item != end; ++item) {
    const auto is_above = [&](const Item& a, const Item& b) {  // b not below the line from a
      return (b.cost - a.cost) * (item->value - a.value) >=
             (item->cost - a.cost) * (b.value - a.value);
    };
    while (hull.size() >= 2 && is_above(hull[hull.size() - 2], hull.back())) {
      hull.pop_back();
    }
    hull.push_back(*item);
  }
}

}  // namespace shardwise::planning
