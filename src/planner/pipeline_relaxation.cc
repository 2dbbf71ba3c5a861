#include "planner/pipeline_relaxation.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Sums of doubles may round: a bound counts only if it clears what it must by more than that.
constexpr double kClear = 1 + 1e-9;
constexpr int kPriceSteps = 12;

}  // namespace

PipelineRelaxation::PipelineRelaxation(Problem& problem,
                                       StageSearch& stages,
                                       const PipelineSpace& space,
                                       const PipelineShape& shape,
                                       const std::vector<PlaceClass>& classes,
                                       const std::vector<double>& layer_work)
    : problem_(problem),
      stages_(stages),
      space_(space),
      shape_(shape),
      classes_(classes),
      rounds_(problem.num_microbatches() + static_cast<double>(shape.stages - 1) / shape.chunks),
      values_before_{0} {
  for (const double work : layer_work) {
    values_before_.push_back(values_before_.back() + work);
  }
  for (const std::vector<int>& devices : problem.places().devices()) {
    num_devices_.push_back(static_cast<double>(devices.size()));
  }
}

double PipelineRelaxation::least_overhead() {
  if (overhead_ < 0) {
    overhead_ = kForbidden;
    for (int used = 1; used < problem_.places().num_states(); ++used) {
      overhead_ = std::min(overhead_, static_cast<double>(problem_.least_overhead(used)));
    }
  }
  return overhead_;
}

int PipelineRelaxation::rounded_in_flight(int from_end, InFlight in_flight) const {
  if (in_flight == InFlight::kOne) {
    return 1;
  }
  const int exact = space_.in_flight(from_end);
  int rounded = 1;
  while (rounded * 2 <= exact) {
    rounded *= 2;
  }
  return rounded >= 2 && rounded / 2 * 3 <= exact ? rounded / 2 * 3 : rounded;
}

void PipelineRelaxation::make_groups(InFlight in_flight) {
  groups_.clear();
  choices_.clear();
  const int last = shape_.stages - 1;
  for (int from_end = 0; from_end <= last; ++from_end) {
    Group group;
    group.runs = last == 0         ? Group::Runs::kWhole
                 : from_end == 0   ? Group::Runs::kLast
                 : from_end < last ? Group::Runs::kInner
                                   : Group::Runs::kFirst;
    group.in_flight = rounded_in_flight(from_end, in_flight);
    if (!groups_.empty() && groups_.back().runs == group.runs &&
        groups_.back().in_flight == group.in_flight) {
      ++groups_.back().count;
    } else {
      groups_.push_back(group);
    }
  }
  choices_.resize(groups_.size());
}

// Each run of equal blocks once.
std::vector<std::pair<int, int>> PipelineRelaxation::runs_of(Group::Runs runs) const {
  const int size = static_cast<int>(values_before_.size()) - 1;
  std::vector<std::pair<int, int>> all;
  const auto add = [&](int begin, int end, int others) {
    if (space_.is_run(begin, end, others)) {
      all.emplace_back(begin, end);
    }
  };
  switch (runs) {
    case Group::Runs::kWhole:
      add(0, size, 0);
      break;
    case Group::Runs::kFirst:
      for (int end = 1; end <= size - (shape_.stages - 1); ++end) {
        add(0, end, 0);
      }
      break;
    case Group::Runs::kLast:
      for (int begin = shape_.stages - 1; begin < size; ++begin) {
        add(begin, size, shape_.stages - 1);
      }
      break;
    case Group::Runs::kInner: {
      std::set<std::pair<int, int>> distinct;
      const int longest = size - (shape_.stages - 1);
      for (int begin = 1; begin < size; ++begin) {
        for (int end = begin + 1; end < size && end - begin <= longest; ++end) {
          const StageKey key = space_.key_of(0, 0, begin, end);
          distinct.emplace(key.begin, key.end);
        }
      }
      all.assign(distinct.begin(), distinct.end());
    }
  }
  return all;
}

void PipelineRelaxation::fill(std::size_t group) {
  const std::vector<std::pair<int, int>> runs = runs_of(groups_[group].runs);
  choices_[group].clear();
  for (const PlaceClass& place : classes_) {
    Choice choice;
    choice.place = &place;
    std::vector<StageSearch::Family*> families;
    for (const int shape : place.shapes) {
      StageKey key;
      key.shape = shape;
      key.in_flight = groups_[group].in_flight;
      families.push_back(&stages_.family(key, step_weight_));
    }
    for (const auto& [begin, end] : runs) {
      problem_.deadline().check();
      double cost = kForbidden;
      for (StageSearch::Family* family : families) {
        cost = std::min(cost, stages_.bound(*family, begin, end));
      }
      if (cost < kForbidden) {
        choice.items.push_back(
            {values_before_[at(end)] - values_before_[at(begin)], cost, begin, end});
      }
    }
    std::stable_sort(choice.items.begin(), choice.items.end(), [](const Item& a, const Item& b) {
      return std::tie(a.value, a.cost) < std::tie(b.value, b.cost);
    });
    choices_[group].push_back(std::move(choice));
  }
}

// Only vertices of the lower hull minimise cost - price * value for some price.
void PipelineRelaxation::make_hulls(double most) {
  for (std::vector<Choice>& choices : choices_) {
    for (Choice& choice : choices) {
      std::vector<Item>& hull = choice.hull;
      hull.clear();
      for (const Item& item : choice.items) {
        if (item.cost > most * kClear) {
          continue;
        }
        const auto is_above = [&](const Item& a, const Item& b) {  // b above the line from a
          return (b.cost - a.cost) * (item.value - a.value) >=
                 (item.cost - a.cost) * (b.value - a.value);
        };
        while (hull.size() >= 2 && is_above(hull[hull.size() - 2], hull.back())) {
          hull.pop_back();
        }
        hull.push_back(item);
      }
    }
  }
}

PipelineRelaxation::Chosen PipelineRelaxation::choose(
    double value_price, const std::vector<double>& device_prices) const {
  Chosen chosen;
  chosen.devices.assign(device_prices.size(), 0);
  chosen.bound = value_price * values_before_.back();
  for (std::size_t type = 0; type < device_prices.size(); ++type) {
    chosen.bound -= device_prices[type] * num_devices_[type];
  }
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    double least = kForbidden;
    const Choice* choice = nullptr;
    const Item* item = nullptr;
    for (const Choice& other : choices_[g]) {
      const double devices = device_prices[at(other.place->type)] * other.place->size;
      // Along the hull the reduced cost falls, then rises.
      const auto reduced = [&](const Item& i) { return i.cost - value_price * i.value; };
      const auto found =
          std::partition_point(other.hull.begin(), other.hull.end(), [&](const Item& i) {
            return &i != &other.hull.back() && reduced(*(&i + 1)) < reduced(i);
          });
      if (found != other.hull.end() && devices + reduced(*found) < least) {
        least = devices + reduced(*found);
        choice = &other;
        item = &*found;
      }
    }
    if (choice == nullptr) {
      chosen.is_possible = false;
      chosen.bound = kForbidden;
      return chosen;
    }
    const double count = groups_[g].count;
    chosen.bound += count * least;
    chosen.value += count * item->value;
    chosen.devices[at(choice->place->type)] += count * choice->place->size;
  }
  return chosen;
}

// The bound is concave in the price: where the chosen runs hold too little, the price must rise.
PipelineRelaxation::Chosen PipelineRelaxation::best_value_price(
    const std::vector<double>& device_prices, double enough) {
  Chosen best;
  best.bound = -kForbidden;
  double low = 0;
  double high = kForbidden;
  double price = value_price_;
  double best_price = price;
  for (int step = 0; step < kPriceSteps; ++step) {
    Chosen chosen = choose(price, device_prices);
    const bool holds_all = chosen.value >= values_before_.back();
    if (chosen.bound > best.bound) {
      best = std::move(chosen);
      best_price = price;
    }
    if (!best.is_possible || best.bound > enough) {
      break;
    }
    (holds_all ? high : low) = price;
    price = high == kForbidden ? 2 * price : (low + high) / 2;
    if (high < kForbidden && high - low <= 1e-4 * high) {
      break;
    }
  }
  value_price_ = best_price;
  return best;
}

// Largest S(most) found; stops at once above `enough`.
double PipelineRelaxation::least_sum(double most, double enough) {
  make_hulls(most);
  const double work = values_before_.back();
  double devices = 0;
  for (const double number : num_devices_) {
    devices += number;
  }
  if (device_prices_.empty()) {
    // With N devices and equal stages: c = P v / N, so a value is worth P / N, a device c P / N.
    value_price_ = shape_.stages / devices;
    device_prices_.assign(num_devices_.size(), work / devices * shape_.stages / devices);
  }
  Chosen best = best_value_price(device_prices_, enough);
  const int rounds = num_devices_.size() > 1 ? 2 : 1;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t type = 0; type < num_devices_.size(); ++type) {
      std::vector<double> prices = device_prices_;
      double low = 0;
      double high = kForbidden;
      Chosen chosen = best;
      for (int step = 0; step < kPriceSteps; ++step) {
        if (!best.is_possible || best.bound > enough) {
          return best.bound;
        }
        (chosen.devices[type] > num_devices_[type] ? low : high) = prices[type];
        prices[type] = high == kForbidden ? 2 * prices[type] + 1 : (low + high) / 2;
        if (high < kForbidden && high - low <= 1e-4 * high) {
          break;
        }
        const double value_price = value_price_;
        chosen = best_value_price(prices, enough);
        if (chosen.bound > best.bound) {
          best = chosen;
          device_prices_ = prices;
        } else {
          value_price_ = value_price;
        }
      }
    }
  }
  return best.bound;
}

bool PipelineRelaxation::can_beat(double cutoff, double step_weight, InFlight in_flight) {
  step_weight_ = step_weight;
  make_groups(in_flight);
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    fill(group);
  }
  const int m = problem_.num_microbatches();
  const double room = cutoff - least_overhead();
  if (room <= 0) {
    return false;
  }
  double most = room / (space_.is_interleaved() ? rounds_ : m);
  constexpr int kMostRounds = 12;
  for (int round = 0; round < kMostRounds; ++round) {
    most_ = most * kClear;
    const double all = shape_.stages * most;
    const double sum = least_sum(most, all * kClear);
    if (sum > all * kClear || (!space_.is_interleaved() && sum > room * kClear)) {
      return false;
    }
    if (space_.is_interleaved() || m == 1) {
      return true;
    }
    const double next = (room - sum) / (m - 1);
    if (next > most * (1 - 1e-4)) {
      return true;
    }
    most = next;
  }
  return true;
}

bool PipelineRelaxation::sharpen() {
  bool rose = false;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    // The runs on both sides of the best price: what a mix of them would use.
    for (const double factor : {1 - 1e-3, 1 + 1e-3}) {
      double least = kForbidden;
      const Choice* choice = nullptr;
      const Item* item = nullptr;
      for (const Choice& other : choices_[g]) {
        for (const Item& i : other.hull) {
          const double reduced = device_prices_[at(other.place->type)] * other.place->size +
                                 i.cost - factor * value_price_ * i.value;
          if (reduced < least) {
            least = reduced;
            choice = &other;
            item = &i;
          }
        }
      }
      if (choice == nullptr) {
        continue;
      }
      for (const int shape : choice->place->shapes) {
        StageKey key;
        key.shape = shape;
        key.in_flight = groups_[g].in_flight;
        key.begin = item->begin;
        key.end = item->end;
        if (stages_.bound(key, step_weight_) <= item->cost * kClear) {
          rose |= stages_.sharpen(key, step_weight_);
        }
      }
    }
  }
  return rose;
}

}  // namespace shardwise::planning
