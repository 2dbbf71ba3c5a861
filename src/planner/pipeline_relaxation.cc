#include "planner/pipeline_relaxation.h"

#include <algorithm>

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Sums of doubles may round: a bound counts only if it clears what it must by more than that.
constexpr double kClear = 1 + 1e-9;

// Looks for the price at which something that falls with it is neither too much nor too little:
// steps that grow until both sides are known, then halves. Prices near the start are found soonest.
class PriceSearch {
 public:
  explicit PriceSearch(double start) : price_(start) {}

  double price() const { return price_; }
  bool is_done() const { return is_done_; }
  void step(bool must_rise) {
    (must_rise ? low_ : high_) = price_;
    if (++steps_ >= kMostSteps || (high_ < kForbidden && high_ - low_ <= kWidth * high_)) {
      is_done_ = true;
    } else if (low_ > 0 && high_ < kForbidden) {
      price_ = (low_ + high_) / 2;
    } else {
      price_ = must_rise ? price_ * factor_ + kLeast : price_ / factor_;
      factor_ *= factor_;
    }
  }

 private:
  static constexpr int kMostSteps = 14;
  static constexpr double kWidth = 4e-3;
  static constexpr double kLeast = 1e-12;
  double price_;
  double low_ = 0;
  double high_ = kForbidden;
  double factor_ = 1.005;
  int steps_ = 0;
  bool is_done_ = false;
};

}  // namespace

PipelineRelaxation::PipelineRelaxation(Problem& problem,
                                       StageSearch& stages,
                                       const PipelineSpace& space,
                                       const PipelineShape& shape,
                                       const PlaceClasses& places,
                                       RunBounds& runs)
    : problem_(problem),
      stages_(stages),
      space_(space),
      shape_(shape),
      places_(places),
      runs_(runs),
      rounds_(problem.num_microbatches() + static_cast<double>(shape.stages - 1) / shape.chunks) {
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
  if (in_flight == InFlight::kExact) {
    return exact;
  }
  int rounded = 1;
  while (rounded * 2 <= exact) {
    rounded *= 2;
  }
  return rounded >= 2 && rounded / 2 * 3 <= exact ? rounded / 2 * 3 : rounded;
}

void PipelineRelaxation::make_groups(InFlight in_flight) {
  groups_.clear();
  const int last = shape_.stages - 1;
  for (int from_end = 0; from_end <= last; ++from_end) {
    Group group;
    group.runs = last == 0         ? RunBounds::Runs::kWhole
                 : from_end == 0   ? RunBounds::Runs::kLast
                 : from_end < last ? RunBounds::Runs::kInner
                                   : RunBounds::Runs::kFirst;
    group.in_flight = rounded_in_flight(from_end, in_flight);
    if (!groups_.empty() && groups_.back().runs == group.runs &&
        groups_.back().in_flight == group.in_flight) {
      ++groups_.back().count;
    } else {
      groups_.push_back(group);
    }
  }
}

PipelineRelaxation::Priced PipelineRelaxation::best_of(const RunBounds::Choice& choice,
                                                       double value_price) {
  const std::vector<Item>& hull = choice.hull;
  if (hull.empty()) {
    return {};
  }
  // Along the hull the reduced cost falls, then rises.
  const auto is_better = [&](const Item& a) {
    const Item& next = *(&a + 1);
    return next.cost - a.cost < value_price * (next.value - a.value);
  };
  const Item& best = *std::partition_point(hull.begin(), hull.end() - 1, is_better);
  return {best.cost - value_price * best.value, best};
}

void PipelineRelaxation::keep_below(double most) {
  for (Group& group : groups_) {
    for (RunBounds::Choice& choice : *group.choices) {
      RunBounds::keep_below(most, choice);
    }
  }
}

PipelineRelaxation::Chosen PipelineRelaxation::choose(
    double value_price, const std::vector<double>& device_prices) const {
  return devices_ == Devices::kPlaced ? choose_placed(value_price, nullptr)
                                      : choose_priced(value_price, device_prices, nullptr);
}

PipelineRelaxation::Chosen PipelineRelaxation::choose_priced(
    double value_price, const std::vector<double>& device_prices, std::vector<Used>* used) const {
  Chosen chosen;
  chosen.devices.assign(device_prices.size(), 0);
  chosen.bound = value_price * runs_.value_of_all();
  for (std::size_t type = 0; type < device_prices.size(); ++type) {
    chosen.bound -= device_prices[type] * num_devices_[type];
  }
  for (const Group& group : groups_) {
    double least = kForbidden;
    const PlaceClass* place = nullptr;
    Item item;
    for (const RunBounds::Choice& choice : *group.choices) {
      const Priced best = best_of(choice, value_price);
      const double reduced =
          device_prices[at(choice.place->type)] * choice.place->size + best.reduced;
      if (reduced < least) {
        least = reduced;
        place = choice.place;
        item = best.item;
      }
    }
    if (place == nullptr) {
      chosen.is_possible = false;
      chosen.bound = kForbidden;
      return chosen;
    }
    const double count = group.count;
    chosen.bound += count * least;
    chosen.value += count * item.value;
    chosen.devices[at(place->type)] += count * place->size;
    if (used != nullptr) {
      used->push_back({group.in_flight, place, item});
    }
  }
  return chosen;
}

PipelineRelaxation::Chosen PipelineRelaxation::choose_placed(double value_price,
                                                             std::vector<Used>* used) const {
  const StagePlaces& places = problem_.places();
  const std::size_t states = at(places.num_states());
  struct Taken {
    int before = -1;  // devices taken by the stages behind
    int place_class = -1;
  };
  std::vector<std::vector<Taken>> ways;  // [stage][devices taken], if asked for
  struct Reached {
    double sum = kForbidden;
    double value = 0;
  };
  std::vector<Reached> least(states);
  least[0].sum = 0;
  std::vector<std::vector<Priced>> priced;  // [group][class]
  std::vector<Reached> next;
  for (const Group& group : groups_) {
    std::vector<Priced>& runs = priced.emplace_back();
    for (const RunBounds::Choice& choice : *group.choices) {
      runs.push_back(best_of(choice, value_price));
    }
    for (int stage = 0; stage < group.count; ++stage) {
      next.assign(states, {});
      if (used != nullptr) {
        ways.emplace_back(states);
      }
      for (std::size_t taken = 0; taken < states; ++taken) {
        if (least[taken].sum == kForbidden) {
          continue;
        }
        const std::vector<StagePlaces::Step>& steps = places.steps(static_cast<int>(taken));
        const std::vector<int>& classes = places_.of_step[taken];
        for (std::size_t s = 0; s < steps.size(); ++s) {
          if (classes[s] < 0) {
            continue;
          }
          const Priced& run = runs[at(classes[s])];
          const double sum = least[taken].sum + run.reduced;
          if (sum < next[at(steps[s].used)].sum) {
            next[at(steps[s].used)] = {sum, least[taken].value + run.item.value};
            if (used != nullptr) {
              ways.back()[at(steps[s].used)] = {static_cast<int>(taken), classes[s]};
            }
          }
        }
      }
      std::swap(least, next);
    }
  }
  Chosen chosen;
  const auto best = std::min_element(
      least.begin(), least.end(), [](const Reached& a, const Reached& b) { return a.sum < b.sum; });
  chosen.is_possible = best->sum < kForbidden;
  chosen.bound = value_price * runs_.value_of_all() + best->sum;
  chosen.value = best->value;
  if (chosen.is_possible && used != nullptr) {
    int taken = static_cast<int>(best - least.begin());
    std::size_t stage = ways.size();
    for (std::size_t g = groups_.size(); g-- > 0;) {
      for (int i = 0; i < groups_[g].count; ++i) {
        const Taken& way = ways[--stage][at(taken)];
        used->push_back({groups_[g].in_flight,
                         (*groups_[g].choices)[at(way.place_class)].place,
                         priced[g][at(way.place_class)].item});
        taken = way.before;
      }
    }
  }
  return chosen;
}

// The bound is concave in the price: where the chosen runs hold too little, the price must rise.
PipelineRelaxation::Chosen PipelineRelaxation::best_value_price(
    const std::vector<double>& device_prices, double enough) {
  Chosen best;
  best.bound = -kForbidden;
  double best_price = value_price_;
  PriceSearch search(value_price_);
  while (!search.is_done()) {
    const double price = search.price();
    Chosen chosen = choose(price, device_prices);
    search.step(chosen.value < runs_.value_of_all());
    if (chosen.bound > best.bound) {
      best = std::move(chosen);
      best_price = price;
    }
    if (!best.is_possible || best.bound > enough) {
      break;
    }
  }
  value_price_ = best_price;
  return best;
}

// Largest S(most) found; stops at once above `enough`.
double PipelineRelaxation::least_sum(double most, double enough) {
  keep_below(most * kClear);
  const double work = runs_.value_of_all();
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
  if (devices_ == Devices::kPlaced) {
    return best.bound;
  }
  const int rounds = num_devices_.size() > 1 ? 2 : 1;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t type = 0; type < num_devices_.size(); ++type) {
      std::vector<double> prices = device_prices_;
      PriceSearch search(prices[type]);
      search.step(best.devices[type] > num_devices_[type]);
      while (!search.is_done()) {
        if (!best.is_possible || best.bound > enough) {
          return best.bound;
        }
        prices[type] = search.price();
        const double value_price = value_price_;
        Chosen chosen = best_value_price(prices, enough);
        search.step(chosen.devices[type] > num_devices_[type]);
        if (chosen.bound > best.bound) {
          best = std::move(chosen);
          device_prices_ = prices;
        } else {
          value_price_ = value_price;
        }
      }
    }
  }
  return best.bound;
}

bool PipelineRelaxation::can_beat(double cutoff,
                                  double step_weight,
                                  InFlight in_flight,
                                  Devices devices) {
  step_weight_ = step_weight;
  devices_ = devices;
  cutoff_ = cutoff;
  make_groups(in_flight);
  for (Group& group : groups_) {
    group.choices = &runs_.of(group.runs, group.in_flight, step_weight_);
  }
  return !excludes(cutoff);
}

double PipelineRelaxation::bound(double proved) {
  constexpr int kHalvings = 6;
  const double most = most_;
  double high = cutoff_;
  for (int halving = 0; halving < kHalvings && proved < high; ++halving) {
    const double middle = (proved + high) / 2;
    (excludes(middle) ? proved : high) = middle;
  }
  most_ = most;
  return proved;
}

bool PipelineRelaxation::excludes(double cutoff) {
  const int m = problem_.num_microbatches();
  const double room = cutoff - least_overhead();
  if (room <= 0) {
    return true;
  }
  double most = room / (space_.is_interleaved() ? rounds_ : m);
  constexpr int kMostRounds = 12;
  for (int round = 0; round < kMostRounds; ++round) {
    problem_.deadline().check();
    most_ = most * kClear;
    const double all = shape_.stages * most;
    const double sum = least_sum(most, all * kClear);
    if (sum > all * kClear || (!space_.is_interleaved() && sum > room * kClear)) {
      return true;
    }
    if (space_.is_interleaved() || m == 1) {
      return false;
    }
    const double next = (room - sum) / (m - 1);
    if (next > most * (1 - 1e-4)) {
      return false;
    }
    most = next;
  }
  return false;
}

std::vector<PipelineRelaxation::Hint> PipelineRelaxation::stages() const {
  std::vector<Used> used;
  choose_placed(value_price_, &used);
  std::vector<Hint> hints;
  for (auto run = used.rbegin(); run != used.rend(); ++run) {
    hints.push_back({run->place->size, run->item.end - run->item.begin});
  }
  return hints;
}

bool PipelineRelaxation::sharpen() {
  keep_below(most_);
  // The runs on both sides of the best price: what a mix of them would use.
  std::vector<Used> used;
  for (const double factor : {1 - 1e-3, 1 + 1e-3}) {
    if (devices_ == Devices::kPlaced) {
      choose_placed(factor * value_price_, &used);
    } else {
      choose_priced(factor * value_price_, device_prices_, &used);
    }
  }
  bool rose = false;
  for (const Used& run : used) {
    for (const int shape : run.place->shapes) {
      StageKey key;
      key.shape = shape;
      key.in_flight = run.in_flight;
      key.begin = run.item.begin;
      key.end = run.item.end;
      if (stages_.bound(key, step_weight_) <= run.item.cost * kClear) {
        rose |= stages_.sharpen(key, step_weight_);
      }
    }
  }
  return rose;
}

}  // namespace shardwise::planning
