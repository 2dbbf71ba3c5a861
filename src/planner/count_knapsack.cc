#include "planner/count_knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace shardwise::planning {

namespace {

// One edge of a group's lower hull of cost over memory, from the smaller memory to the larger.
struct HullEdge {
  double gain = 0;  // cost saved per unit of memory
  std::int64_t memory = 0;
  double cost = 0;
  int size = 0;
  std::size_t group = 0;
  int from = 0;  // options at its ends
  int to = 0;
};

double cost_of(const CountOption& option, const CountPiece& piece) {
  return piece.slope * option.c + piece.weight * option.d;
}

// Vertices of the lower left hull, by growing memory and falling cost.
std::vector<int> lower_hull(const CountGroup& group, const CountPiece& piece) {
  std::vector<int> order(group.options.size());
  std::iota(order.begin(), order.end(), 0);
  const auto option = [&](int k) -> const CountOption& {
    return group.options[static_cast<std::size_t>(k)];
  };
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    if (option(a).memory != option(b).memory) {
      return option(a).memory < option(b).memory;
    }
    const double cost_a = cost_of(option(a), piece);
    const double cost_b = cost_of(option(b), piece);
    return cost_a != cost_b ? cost_a < cost_b : a < b;
  });
  const auto gain = [&](int a, int b) {
    return (cost_of(option(a), piece) - cost_of(option(b), piece)) /
           static_cast<double>(option(b).memory - option(a).memory);
  };
  std::vector<int> hull;
  for (const int k : order) {
    if (!hull.empty() && cost_of(option(k), piece) >= cost_of(option(hull.back()), piece)) {
      continue;
    }
    while (hull.size() >= 2 && gain(hull[hull.size() - 2], hull.back()) <= gain(hull.back(), k)) {
      hull.pop_back();
    }
    hull.push_back(k);
  }
  return hull;
}

struct Relaxation {
  double value = 0;                      // with the piece's constant
  double multiplier = 0;                 // of a unit of memory
  std::vector<std::vector<int>> counts;  // its solution, rounded down to what fits
};

std::optional<Relaxation> relax(const CountProblem& problem, const CountPiece& piece) {
  std::vector<HullEdge> edges;
  std::int64_t room = problem.budget;
  Relaxation result{piece.constant, 0, {}};
  for (const CountGroup& group : problem.groups) {
    result.counts.emplace_back(group.options.size(), 0);
    if (group.size == 0) {
      continue;
    }
    const std::vector<int> hull = lower_hull(group, piece);
    if (hull.empty()) {
      return std::nullopt;
    }
    const auto option = [&](std::size_t v) -> const CountOption& {
      return group.options[static_cast<std::size_t>(hull[v])];
    };
    result.counts.back()[static_cast<std::size_t>(hull[0])] = group.size;
    room -= group.size * option(0).memory;
    result.value += group.size * cost_of(option(0), piece);
    for (std::size_t v = 1; v < hull.size(); ++v) {
      HullEdge edge;
      edge.memory = option(v).memory - option(v - 1).memory;
      edge.cost = cost_of(option(v - 1), piece) - cost_of(option(v), piece);
      edge.gain = edge.cost / static_cast<double>(edge.memory);
      edge.size = group.size;
      edge.group = result.counts.size() - 1;
      edge.from = hull[v - 1];
      edge.to = hull[v];
      edges.push_back(edge);
    }
  }
  if (room < 0) {
    return std::nullopt;
  }
  std::stable_sort(edges.begin(), edges.end(), [](const HullEdge& a, const HullEdge& b) {
    return a.gain > b.gain;
  });
  bool is_fractional = false;
  for (const HullEdge& edge : edges) {
    auto& counts = result.counts[edge.group];
    int& here = counts[static_cast<std::size_t>(edge.from)];
    const int moved = static_cast<int>(std::min<std::int64_t>(here, room / edge.memory));
    if (!is_fractional) {
      if (moved < edge.size) {
        result.value -= edge.gain * static_cast<double>(room);
        result.multiplier = edge.gain;
        is_fractional = true;
      } else {
        result.value -= edge.cost * edge.size;
      }
    }
    here -= moved;
    counts[static_cast<std::size_t>(edge.to)] += moved;
    room -= edge.memory * moved;
  }
  return result;
}

class CountSearch {
 public:
  CountSearch(const CountProblem& problem, double cutoff) : problem_(problem), best_(cutoff) {}

  std::optional<CountSolution> search() {
    for (const CountPiece& piece : problem_.pieces) {
      const auto relaxation = relax(problem_, piece);
      if (!relaxation || relaxation->value >= best_) {
        return std::move(found_);  // of an earlier piece, if any: nothing is better
      }
      bounds_.push_back(relaxation->value);
      multipliers_.push_back(relaxation->multiplier);
      take(relaxation->counts);
    }
    prepare();
    choose(0, 0, problem_.groups.empty() ? 0 : problem_.groups[0].size, bounds_);
    return std::move(found_);
  }

 private:
  // A solution from outside the enumeration.
  void take(const std::vector<std::vector<int>>& counts) {
    double c = 0;
    double d = 0;
    for (std::size_t g = 0; g < counts.size(); ++g) {
      for (std::size_t k = 0; k < counts[g].size(); ++k) {
        c += counts[g][k] * problem_.groups[g].options[k].c;
        d += counts[g][k] * problem_.groups[g].options[k].d;
      }
    }
    consider(c, d, counts);
  }

  // Reduced costs by piece, and the order in which a group's options are tried: those that the
  // relaxations leave out come first, so that hopeless counts die early.
  void prepare() {
    const std::size_t pieces = problem_.pieces.size();
    std::int64_t least = 0;
    for (const CountGroup& group : problem_.groups) {
      std::vector<double> reduced;
      std::vector<double> smallest(pieces, std::numeric_limits<double>::max());
      std::int64_t smallest_memory = std::numeric_limits<std::int64_t>::max();
      for (const CountOption& option : group.options) {
        smallest_memory = std::min(smallest_memory, option.memory);
        for (std::size_t p = 0; p < pieces; ++p) {
          reduced.push_back(cost_of(option, problem_.pieces[p]) +
                            multipliers_[p] * static_cast<double>(option.memory));
          smallest[p] = std::min(smallest[p], reduced.back());
        }
      }
      std::vector<double> worst(group.options.size(), 0);
      for (std::size_t k = 0; k < group.options.size(); ++k) {
        for (std::size_t p = 0; p < pieces; ++p) {
          double& cost = reduced[k * pieces + p];
          cost = std::max(0.0, cost - smallest[p]);
          worst[k] = std::max(worst[k], cost);
        }
      }
      std::vector<int> order(group.options.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return worst[static_cast<std::size_t>(a)] > worst[static_cast<std::size_t>(b)];
      });
      reduced_.push_back(std::move(reduced));
      orders_.push_back(std::move(order));
      least_memory_.push_back(smallest_memory);
      counts_.emplace_back(group.options.size(), 0);
      least += group.size == 0 ? 0 : group.size * smallest_memory;
    }
    room_ = problem_.budget - least;
  }

  // Counts for the options of `group` from place `place` of its order on, for `left` more layers.
  // `room_` is the budget less what was chosen and the least that the rest needs.
  void choose(std::size_t group, std::size_t place, int left, const std::vector<double>& bounds) {
    if (group == problem_.groups.size()) {
      consider(c_, d_, counts_);
      return;
    }

    if (left == 0) {
      const std::size_t next = group + 1;
      choose(next, 0, next < problem_.groups.size() ? problem_.groups[next].size : 0, bounds);
      return;
    }
    const std::vector<int>& order = orders_[group];
    if (place == order.size()) {
      return;
    }
    const auto k = static_cast<std::size_t>(order[place]);
    const CountOption& option = problem_.groups[group].options[k];
    const std::int64_t extra = option.memory - least_memory_[group];
    const bool is_last = place + 1 == order.size();
    const std::int64_t room = room_;
    const double c = c_;
    const double d = d_;
    std::vector<double> here(bounds.size());
    for (int count = is_last ? left : 0; count <= left; ++count) {
      if (extra * count > room || !is_open(group, k, count, bounds, here)) {
        break;
      }
      room_ = room - extra * count;
      c_ = c + count * option.c;
      d_ = d + count * option.d;
      counts_[group][k] = count;
      choose(group, place + 1, left - count, here);
    }
    counts_[group][k] = 0;
    room_ = room;
    c_ = c;
    d_ = d;
  }

  bool is_open(std::size_t group,
               std::size_t k,
               int count,
               const std::vector<double>& bounds,
               std::vector<double>& here) const {
    bool is_below = true;
    for (std::size_t p = 0; p < bounds.size(); ++p) {
      here[p] = bounds[p] + count * reduced_[group][k * bounds.size() + p];
      is_below = is_below && here[p] < best_;
    }
    return is_below;
  }

  void consider(double c, double d, const std::vector<std::vector<int>>& counts) {
    double value = -std::numeric_limits<double>::max();
    for (const CountPiece& piece : problem_.pieces) {
      value = std::max(value, piece.slope * c + piece.weight * d + piece.constant);
    }
    if (value < best_) {
      best_ = value;
      found_ = CountSolution{value, c, d, counts};
    }
  }

  const CountProblem& problem_;
  double best_;
  std::vector<double> bounds_;
  std::vector<double> multipliers_;
  std::vector<std::vector<double>> reduced_;  // [group][option * pieces + piece]
  std::vector<std::vector<int>> orders_;
  std::vector<std::int64_t> least_memory_;
  std::vector<std::vector<int>> counts_;
  std::int64_t room_ = 0;
  double c_ = 0;
  double d_ = 0;
  std::optional<CountSolution> found_;
};

class CoreSearch {
 public:
  CoreSearch(const CountProblem& problem, double limit) : problem_(problem), limit_(limit) {}

  CountAnswer search() {
    auto relaxation = relax(problem_, problem_.pieces[0]);
    if (!relaxation) {
      return {std::nullopt, true, std::numeric_limits<double>::infinity()};
    }
    const double relaxed = relaxation->value;
    if (relaxed > limit_ * (1 + 1e-12)) {
      return {std::nullopt, true, relaxed};
    }
    counts_ = std::move(relaxation->counts);
    start();
    order_layers(relaxation->multiplier);
    for (std::size_t n = 0;; ++n) {
      if (const auto found = solved()) {
        return {solution_of(*found), true, relaxed};
      }
      if (n == layers_.size() || states_.back().empty()) {
        return {std::nullopt, true, relaxed};
      }
      if (num_states_ > kMaxStates) {
        return {std::nullopt, false, relaxed};
      }
      extend(n);
    }
  }

 private:
  static constexpr std::size_t kMaxStates = 2'000'000;

  // A layer of a group, which has `base` in the rounded relaxation.
  struct Layer {
    std::size_t group = 0;
    std::size_t base = 0;
    double saving_price = 0;   // least cost of a byte saved by changing it
    double spending_gain = 0;  // most cost gained by a byte spent
    double distance = 0;       // of the nearest of both from the multiplier
  };

  struct State {
    std::int64_t memory = 0;
    double cost = 0;
    std::int32_t before = 0;  // index in the layer before
    std::int32_t option = 0;  // of the layer that led here
  };

  double cost_of_option(std::size_t group, std::size_t k) const {
    return cost_of(problem_.groups[group].options[k], problem_.pieces[0]);
  }

  void start() {
    State state;
    state.cost = problem_.pieces[0].constant;
    for (std::size_t g = 0; g < counts_.size(); ++g) {
      for (std::size_t k = 0; k < counts_[g].size(); ++k) {
        state.memory += counts_[g][k] * problem_.groups[g].options[k].memory;
        state.cost += counts_[g][k] * cost_of_option(g, k);
        for (int n = 0; n < counts_[g][k]; ++n) {
          layers_.push_back(layer_of(g, k));
        }
      }
    }
    states_.push_back({state});
    num_states_ = 1;
  }

  Layer layer_of(std::size_t group, std::size_t base) const {
    Layer layer{group, base, std::numeric_limits<double>::max(), 0, 0};
    const auto& options = problem_.groups[group].options;
    for (std::size_t k = 0; k < options.size(); ++k) {
      const auto spent = static_cast<double>(options[k].memory - options[base].memory);
      const double gain = cost_of_option(group, base) - cost_of_option(group, k);
      if (spent < 0) {
        layer.saving_price = std::min(layer.saving_price, std::max(0.0, gain / spent));
      } else if (gain > 0) {
        // Spending nothing for a gain cannot be: the base would not be on the hull.
        layer.spending_gain = std::max(
            layer.spending_gain, spent > 0 ? gain / spent : std::numeric_limits<double>::max());
      }
    }
    return layer;
  }

  // The nearest to the multiplier first; then the cheapest saving and the best gain among the
  // layers from each place on.
  void order_layers(double multiplier) {
    for (Layer& layer : layers_) {
      layer.distance = std::min(layer.saving_price - multiplier, multiplier - layer.spending_gain);
    }
    std::stable_sort(layers_.begin(), layers_.end(), [](const Layer& a, const Layer& b) {
      return a.distance < b.distance;
    });
    cheapest_saving_.assign(layers_.size() + 1, std::numeric_limits<double>::max());
    best_gain_.assign(layers_.size() + 1, 0);
    for (std::size_t n = layers_.size(); n-- > 0;) {
      cheapest_saving_[n] = std::min(cheapest_saving_[n + 1], layers_[n].saving_price);
      best_gain_[n] = std::max(best_gain_[n + 1], layers_[n].spending_gain);
    }
  }

  std::optional<std::size_t> solved() const {
    const auto& states = states_.back();
    for (std::size_t s = 0; s < states.size(); ++s) {
      if (states[s].memory <= problem_.budget && states[s].cost <= limit_) {
        return s;
      }
    }
    return std::nullopt;
  }

  // Whether layers from `next` on may still bring the state within budget and limit.
  bool is_open(const State& state, std::size_t next) const {
    if (state.memory > problem_.budget) {
      const double price = cheapest_saving_[next];
      return price < std::numeric_limits<double>::max() &&
             state.cost + price * static_cast<double>(state.memory - problem_.budget) <=
                 limit_ * (1 + 1e-12);
    }
    const double gain = best_gain_[next];
    const auto room = static_cast<double>(problem_.budget - state.memory);
    return gain > 0 && (gain == std::numeric_limits<double>::max() ||
                        state.cost - gain * room <= limit_ * (1 + 1e-12));
  }

  void extend(std::size_t n) {
    const Layer& layer = layers_[n];
    const auto& options = problem_.groups[layer.group].options;
    std::vector<State> next;
    const auto& states = states_.back();
    for (std::size_t s = 0; s < states.size(); ++s) {
      for (std::size_t k = 0; k < options.size(); ++k) {
        State state = states[s];
        state.memory += options[k].memory - options[layer.base].memory;
        state.cost += cost_of_option(layer.group, k) - cost_of_option(layer.group, layer.base);
        state.before = static_cast<std::int32_t>(s);
        state.option = static_cast<std::int32_t>(k);
        const bool is_solved = state.memory <= problem_.budget && state.cost <= limit_;
        if (is_solved || is_open(state, n + 1)) {
          next.push_back(state);
        }
      }
    }
    std::stable_sort(next.begin(), next.end(), [](const State& a, const State& b) {
      return a.memory != b.memory ? a.memory < b.memory : a.cost < b.cost;
    });
    std::vector<State> kept;
    for (const State& state : next) {
      if (kept.empty() || state.cost < kept.back().cost) {
        kept.push_back(state);
      }
    }
    num_states_ += kept.size();
    states_.push_back(std::move(kept));
  }

  CountSolution solution_of(std::size_t index) const {
    CountSolution solution;
    solution.counts = counts_;
    for (std::size_t n = states_.size() - 1; n > 0; --n) {
      const State& state = states_[n][index];
      const Layer& layer = layers_[n - 1];
      --solution.counts[layer.group][layer.base];
      ++solution.counts[layer.group][static_cast<std::size_t>(state.option)];
      index = static_cast<std::size_t>(state.before);
    }
    for (std::size_t g = 0; g < solution.counts.size(); ++g) {
      for (std::size_t k = 0; k < solution.counts[g].size(); ++k) {
        solution.c += solution.counts[g][k] * problem_.groups[g].options[k].c;
        solution.d += solution.counts[g][k] * problem_.groups[g].options[k].d;
      }
    }
    const CountPiece& piece = problem_.pieces[0];
    solution.value = piece.slope * solution.c + piece.weight * solution.d + piece.constant;
    return solution;
  }

  const CountProblem& problem_;
  const double limit_;
  std::vector<std::vector<int>> counts_;  // of the rounded relaxation
  std::vector<Layer> layers_;
  std::vector<double> cheapest_saving_;
  std::vector<double> best_gain_;
  std::vector<std::vector<State>> states_;  // after each layer
  std::size_t num_states_ = 0;
};

}  // namespace

std::optional<double> count_bound(const CountProblem& problem) {
  std::optional<double> bound;
  for (const CountPiece& piece : problem.pieces) {
    const auto relaxation = relax(problem, piece);
    if (!relaxation) {
      return std::nullopt;
    }
    bound = bound ? std::max(*bound, relaxation->value) : relaxation->value;
  }
  return bound;
}

std::optional<CountSolution> solve_counts(const CountProblem& problem, double cutoff) {
  return CountSearch(problem, cutoff).search();
}

CountAnswer find_counts_within(const CountProblem& problem, double limit) {
  return CoreSearch(problem, limit).search();
}

}  // namespace shardwise::planning
