#include "planner/stage_search.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "core/errors.h"
#include "cost/stage_prices.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Sums of doubles may round; limits are widened by more than that.
double widened(double limit) { return limit + 1e-11 * std::abs(limit) + 1; }

// Multipliers lie on a geometric grid, so that stages share them.
constexpr std::size_t kMostSeeds = 8;
constexpr double kGridStep = 1.189207115002721;  // 2^(1/4)
double on_grid(double multiplier) {
  return std::pow(kGridStep, std::round(std::log(multiplier) / std::log(kGridStep)));
}

}  // namespace

ChainBounds& StageSearch::chain_bounds(int shape, const Weights& weights) {
  std::unique_ptr<ChainBounds>& known = chains_[{shape, weights}];
  if (known == nullptr) {
    known = std::make_unique<ChainBounds>(model_, chain_, numbers_, shape, tie_, weights);
  }
  return *known;
}

ChainBounds& StageSearch::memory_bounds(const StageKey& key) {
  return chain_bounds(key.shape, {0, 0, 1, key.in_flight});
}

// Folded chains: every stage receives and sends its decoder layers' ends.
StageSearch::Ends StageSearch::ends_of(const StageKey& key) {
  const auto options = [&](int i) {
    return &model_.options(key.shape, chain_.layers[at(i)], tie_);
  };
  int first = key.begin;
  int last = key.end - 1;
  if (chain_.chunks > 1) {
    first = std::max(first, 1);
    last = std::min(last, chain_.size() - 2);
  }
  return {first > 0 ? options(first) : nullptr, last + 1 < chain_.size() ? options(last) : nullptr};
}

std::int64_t StageSearch::memory_of(const StageKey& key,
                                    const std::vector<const Option*>& options) {
  const int chunks = chain_.chunks;
  std::int64_t state = 0;
  std::vector<internal::LayerMemory> layers;
  std::vector<Bytes> kept(at(chunks));  // by chunk
  const auto add_kept = [&](int times, bool is_first, std::int64_t bytes) {
    for (int c = 0; c < chunks; ++c) {
      const bool is_here = times == chunks || c == (is_first ? 0 : chunks - 1);
      kept[at(c)] += Bytes(is_here ? bytes : 0);
    }
  };
  for (int i = key.begin; i < key.end; ++i) {
    const Option& option = *options[at(i - key.begin)];
    state += chain_.times(i) * option.cost.state;
    add_kept(chain_.times(i), i == 0, option.cost.saved);
    if (i > key.begin) {
      const Option& before = *options[at(i - 1 - key.begin)];
      if (before.saves_output && option.saves_input) {
        const BlockOptions& costs = model_.options(key.shape, chain_.layers[at(i)], tie_);
        const int times = std::min(chain_.times(i - 1), chain_.times(i));
        add_kept(times, i == 1, -costs.input_bytes(option.input));
      }
    }
    layers.push_back(
        {model_.block_of(chain_.layers[at(i)]), kept.front(), Bytes(option.transient)});
  }
  int first = 0;
  int last = static_cast<int>(options.size()) - 1;
  if (chunks > 1) {
    first = key.begin == 0 ? 1 : 0;
    last = key.end == chain_.size() ? last - 1 : last;
  }
  return state + held_activations(key, kept) +
         internal::chunk_transient(layers, frees_behind()).count +
         ends_of(key).bytes(options[at(first)]->input, options[at(last)]->output);
}

// Activations of all micro-batches in flight.
std::int64_t StageSearch::held_activations(const StageKey& key, const std::vector<Bytes>& kept) {
  if (key.stages == 0) {
    return key.in_flight * kept.front().count;
  }
  return internal::interleaved_activations(key.stages, key.stage, model_.num_microbatches(), kept)
      .count;
}

// --- bounds -------------------------------------------------------------------------------------

void StageSearch::Multipliers::add(double multiplier) {
  if (std::find(values.begin(), values.end(), multiplier) == values.end()) {
    values.push_back(multiplier);
    chains.push_back(nullptr);
    ++changes;
  }
}

StageSearch::Family& StageSearch::family(const StageKey& key, double step_weight) {
  StageKey name = key;
  name.begin = 0;
  name.end = 0;
  std::unique_ptr<Family>& known = families_[{name, step_weight}];
  if (known == nullptr) {
    known = std::make_unique<Family>();
    known->key_ = name;
    known->step_weight_ = step_weight;
    const auto [entry, is_new] = multipliers_.try_emplace({key.shape, key.in_flight, step_weight});
    known->multipliers_ = &entry->second;
    if (const auto seeds = seeds_.find({key.shape, key.in_flight});
        is_new && seeds != seeds_.end()) {
      for (const double multiplier : seeds->second) {
        entry->second.add(multiplier);
      }
    }
  }
  return *known;
}

std::size_t StageSearch::changes(const Family& family) const {
  return family.multipliers_->changes;
}

StageSearch::StageDual& StageSearch::dual_of(Family& family, int begin, int end) {
  const std::size_t runs = at(chain_.size() + 1) * at(chain_.size() + 1);
  if (places_of_runs_.empty()) {
    places_of_runs_.assign(runs, -1);
  }
  int& place = places_of_runs_[at(begin) * at(chain_.size() + 1) + at(end)];
  if (place < 0) {
    place = num_places_++;
  }
  if (family.duals_.size() <= at(place)) {
    family.duals_.resize(at(num_places_));
  }
  return family.duals_[at(place)];
}

StageSearch::StageDual& StageSearch::dual_of(const StageKey& key, double step_weight) {
  return dual_of(family(key, step_weight), key.begin, key.end);
}

double StageSearch::bound_with(const StageKey& key, double multiplier, ChainBounds& chain) {
  const Matrix& paths = chain.run(key.begin, key.end);
  double least = kForbidden;
  const int entry = model_.options(key.shape, chain_.layers[at(key.begin)], tie_).first_entry();
  if (multiplier == 0 || chain_.chunks > 1) {
    least =
        *std::min_element(paths.values.begin() + static_cast<std::ptrdiff_t>(paths.place(entry, 0)),
                          paths.values.end());
  } else {
    const Ends ends = ends_of(key);
    for (int input = entry; input < paths.rows; ++input) {
      for (int output = 0; output < paths.columns; ++output) {
        const auto bytes = static_cast<double>(ends.bytes(input, output));
        least = std::min(least, paths(input, output) + multiplier * bytes);
      }
    }
  }
  return multiplier == 0 ? least : least - multiplier * static_cast<double>(memory_left(key));
}

std::int64_t StageSearch::memory_left(const StageKey& key) {
  std::int64_t transient = 0;
  int previous = -1;
  for (int i = key.end - 1; i >= key.begin; --i) {
    const int layer = chain_.layers[at(i)];
    if (model_.block_of(layer) != previous) {
      if (previous >= 0 && frees_behind()) {
        break;
      }
      previous = model_.block_of(layer);
      transient = std::max(transient, model_.options(key.shape, layer, tie_).least_transient());
    }
  }
  return model_.memory_limit(key.shape) - transient;
}

double StageSearch::bound(const StageKey& key, double step_weight) {
  return bound(family(key, step_weight), key.begin, key.end);
}

double StageSearch::bound(Family& family, int begin, int end) {
  StageDual& dual = dual_of(family, begin, end);
  Multipliers& multipliers = *family.multipliers_;
  if (dual.cannot_fit || dual.tried == multipliers.values.size()) {
    if (dual.cannot_fit) {
      return kForbidden;
    }
    return dual.bound;
  }
  StageKey key = family.key_;
  key.begin = begin;
  key.end = end;
  for (; dual.tried < multipliers.values.size(); ++dual.tried) {
    const double multiplier = multipliers.values[dual.tried];
    ChainBounds*& chain = multipliers.chains[dual.tried];
    if (chain == nullptr) {
      const int in_flight = multiplier > 0 ? key.in_flight : 1;
      chain = &chain_bounds(key.shape, {1, family.step_weight_, multiplier, in_flight});
    }
    const double value = bound_with(key, multiplier, *chain);
    if (value > dual.bound) {
      dual.bound = value;
      dual.best_multiplier = multiplier;
    }
  }
  dual.cannot_fit = dual.bound == kForbidden;
  return dual.bound;
}

double StageSearch::least_memory(const StageKey& key) {
  const Matrix& paths = memory_bounds(key).run(key.begin, key.end);
  return *std::min_element(paths.values.begin(), paths.values.end());
}

std::optional<std::vector<Option>> StageSearch::least_memory_options(const StageKey& key) {
  return memory_bounds(key).minimiser(key.begin, key.end);
}

std::unique_ptr<StageFront> StageSearch::candidates(const StageKey& key, double step_weight) {
  const StageDual& dual = dual_of(key, step_weight);
  if (dual.fitting == nullptr) {
    return nullptr;
  }
  auto front = std::make_unique<StageFront>();
  front->is_complete = false;
  const auto add = [&](std::vector<Option> options) {
    StagePoint point;
    auto pool = std::make_unique<std::vector<Option>>(std::move(options));
    for (int i = key.begin; i < key.end; ++i) {
      const Option& option = (*pool)[at(i - key.begin)];
      point.options.push_back(&option);
      point.forward += chain_.times(i) * option.cost.forward;
      point.backward += chain_.times(i) * option.cost.backward;
      point.per_step += chain_.times(i) * option.cost.per_step;
    }
    point.input = pool->front().input;
    point.output = pool->back().output;
    point.memory = memory_of(key, point.options);
    point.is_verified = point.memory <= model_.memory_limit(key.shape);
    if (point.is_verified) {
      front->points.push_back(std::move(point));
      front->pools.push_back(std::move(pool));
    }
  };
  add(*dual.fitting);
  const int best_input = front->points.empty() ? -1 : front->points.front().input;
  const int best_output = front->points.empty() ? -1 : front->points.front().output;
  const double multiplier = dual.fitting_multiplier;
  const int in_flight = multiplier > 0 ? key.in_flight : 1;
  ChainBounds& chain = chain_bounds(key.shape, {1, step_weight, multiplier, in_flight});
  const Matrix& paths = chain.run(key.begin, key.end);
  const int entry = model_.options(key.shape, chain_.layers[at(key.begin)], tie_).first_entry();
  for (int input = entry; input < paths.rows; ++input) {
    for (int output = 0; output < paths.columns; ++output) {
      model_.deadline().check();
      if (input != output && input != best_input && output != best_output) {
        continue;
      }
      if (auto options = chain.minimiser(key.begin, key.end, input, output)) {
        add(std::move(*options));
      }
    }
  }
  return front;
}

bool StageSearch::is_memory_tight(const StageKey& key, double step_weight) {
  return dual_of(key, step_weight).best_multiplier > 0;
}

bool StageSearch::sharpen(const StageKey& key, double step_weight) {
  const double before = bound(key, step_weight);
  if (dual_of(key, step_weight).is_sharp || before == kForbidden) {
    return false;
  }
  dual_of(key, step_weight).is_sharp = true;
  const auto limit = static_cast<double>(model_.memory_limit(key.shape));
  // Weighted time and memory of the minimiser for a multiplier.
  struct Trial {
    double time = 0;
    double memory = 0;
    std::optional<std::vector<Option>> options;
  };
  const auto evaluate = [&](std::optional<std::vector<Option>> options) {
    Trial trial;
    if (options) {
      std::vector<const Option*> pointers;
      for (int i = key.begin; i < key.end; ++i) {
        const Option& option = (*options)[at(i - key.begin)];
        pointers.push_back(&option);
        trial.time += chain_.times(i) * (static_cast<double>(option.cost.time()) +
                                         step_weight * static_cast<double>(option.cost.per_step));
      }
      trial.memory = static_cast<double>(memory_of(key, pointers));
      trial.options = std::move(options);
    }
    return trial;
  };
  const auto minimiser_with = [&](double multiplier) {
    const int in_flight = multiplier > 0 ? key.in_flight : 1;
    return evaluate(chain_bounds(key.shape, {1, step_weight, multiplier, in_flight})
                        .minimiser(key.begin, key.end));
  };
  Trial low = minimiser_with(0);
  if (low.options && low.memory <= limit) {
    dual_of(key, step_weight).fitting =
        std::make_unique<std::vector<Option>>(std::move(*low.options));
    return false;
  }
  if (least_memory(key) > static_cast<double>(memory_left(key))) {
    dual_of(key, step_weight).cannot_fit = true;
    ++multipliers_[{key.shape, key.in_flight, step_weight}].changes;
    return true;
  }
  Trial high = evaluate(least_memory_options(key));
  if (!low.options || !high.options) {
    return false;
  }
  double low_multiplier = 0;
  double high_multiplier = kForbidden;
  const auto add_multiplier = [&](double multiplier) {
    multipliers_[{key.shape, key.in_flight, step_weight}].add(multiplier);
    return minimiser_with(multiplier);
  };
  // The options of least state and activations may be absurdly slow, or need more temporary memory
  // than they save: then upwards from below, in large steps.
  constexpr double kLargeStep = 4;
  constexpr int kMostLargeSteps = 16;
  if (high.memory > limit || high.memory >= low.memory || high.time <= low.time) {
    double next = on_grid(low.time / low.memory / kLargeStep);
    for (int step = 0; step < kMostLargeSteps; ++step) {
      Trial trial = add_multiplier(next);
      if (!trial.options) {
        break;
      }
      const bool fits = trial.memory <= limit;
      (fits ? high : low) = std::move(trial);
      (fits ? high_multiplier : low_multiplier) = next;
      if (fits) {
        break;
      }
      next = on_grid(next * kLargeStep);
    }
  }
  for (int round = 0; round < 24; ++round) {
    if (high.memory >= low.memory || high.time <= low.time) {
      break;
    }
    double next = on_grid((high.time - low.time) / (low.memory - high.memory));
    if (next <= low_multiplier) {
      next = low_multiplier * kGridStep;
    }
    if (next >= high_multiplier * 0.999) {
      break;  // neighbours on the grid
    }
    Trial trial = add_multiplier(next);
    if (!trial.options) {
      break;
    }
    if (trial.memory <= limit) {
      high = std::move(trial);
      high_multiplier = next;
    } else {
      low = std::move(trial);
      low_multiplier = next;
    }
  }
  std::vector<double>& seeds = seeds_[{key.shape, key.in_flight}];
  for (const double multiplier : {low_multiplier, high_multiplier}) {
    if (multiplier > 0 && multiplier < kForbidden && seeds.size() < kMostSeeds &&
        std::find(seeds.begin(), seeds.end(), multiplier) == seeds.end()) {
      seeds.push_back(multiplier);
    }
  }
  if (high.memory <= limit) {
    // Between two neighbours on the grid: the faster options for as many layers as fit.
    const std::vector<Option> slow = *high.options;
    const std::vector<Option> fast = *low.options;
    const auto try_mixed = [&](const std::vector<Option>& head, const std::vector<Option>& tail) {
      for (std::size_t cut = 1; cut < head.size(); ++cut) {
        model_.deadline().check();
        if (head[cut - 1].output != tail[cut].input) {
          continue;
        }
        std::vector<Option> mixed(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(cut));
        mixed.insert(mixed.end(), tail.begin() + static_cast<std::ptrdiff_t>(cut), tail.end());
        Trial trial = evaluate(std::move(mixed));
        if (trial.memory <= limit && trial.time < high.time) {
          high = std::move(trial);
        }
      }
    };
    try_mixed(slow, fast);
    try_mixed(fast, slow);
    StageDual& dual = dual_of(key, step_weight);
    dual.fitting = std::make_unique<std::vector<Option>>(std::move(*high.options));
    dual.fitting_multiplier = high_multiplier < kForbidden ? high_multiplier : low_multiplier;
  }
  return bound(key, step_weight) > before;
}

// --- fronts -------------------------------------------------------------------------------------

// Labels walk from the run's last layer to its first.
class StageSearch::FrontBuilder {
 public:
  FrontBuilder(StageSearch& search, const FrontRequest& request, double multiplier)
      : search_(search),
        model_(search.model_),
        chain_(search.chain_),
        request_(request),
        key_(request.key),
        uses_memory_(request.level != FrontLevel::kTimes),
        passes_(key_.stages == 0
                    ? 0
                    : internal::interleaved_passes_in_flight(key_.stages,
                                                             key_.stage,
                                                             search.model_.num_microbatches(),
                                                             search.chain_.chunks)),
        weights_{1, request.step_weight, multiplier, multiplier > 0 ? request.key.in_flight : 1},
        bounds_(search.chain_bounds(request.key.shape, weights_)),
        memory_limit_(model_.memory_limit(request.key.shape)),
        limit_(widened(request.limit +
                       multiplier * static_cast<double>(search.memory_left(request.key)))) {}

  std::unique_ptr<StageFront> build() {
    front_ = std::make_unique<StageFront>();
    make_pools();
    const int outputs = costs(key_.end - 1).num_outputs();
    for (int output = 0; output < outputs; ++output) {
      walk(output);
    }
    return std::move(front_);
  }

 private:
  struct Label {
    std::int64_t forward = 0;
    std::int64_t backward = 0;
    std::int64_t per_step = 0;
    std::int64_t memory = 0;       // state and activations; folded chains: at least
    std::int64_t state = 0;        // part of memory
    std::int64_t ends_saved = 0;   // activations of the model's first and last layer
    std::int64_t kept = 0;         // activations of one micro-batch
    std::int64_t kept_behind = 0;  // part of them: what layers behind this run of equal blocks keep
    std::int64_t transient = 0;
    double value = 0;
    int layout = 0;  // at the beginning of the layers so far
    std::int64_t signature = -1;
    int inner_input = -1;   // folded chains: layouts at the ends of the decoder layers
    int inner_output = -1;  //
    bool saves_input = false;
    int parent = -1;
    const Option* option = nullptr;
  };

  BlockOptions& costs(int i) {
    return model_.options(key_.shape, chain_.layers[at(i)], search_.tie_);
  }

  // Least weighted cost of layers [begin, i) up to each layout, what may be shared at i taken off.
  std::vector<double> least_before(int i) {
    if (i == key_.begin) {
      std::vector<double> least(at(costs(i).num_inputs()), 0);
      std::fill_n(least.begin(), costs(i).first_entry(), kForbidden);
      return least;
    }
    std::vector<double> least = bounds_.least_to(key_.begin, i);
    for (int layout = 0; layout < static_cast<int>(least.size()); ++layout) {
      least[at(layout)] -= bounds_.saving_after(i - 1, layout);
    }
    least.resize(at(costs(i).num_inputs()), kForbidden);
    return least;
  }
  std::vector<double> least_after(int i) {
    if (i + 1 == key_.end) {
      return std::vector<double>(at(costs(i).num_outputs()), 0);
    }
    std::vector<double> least = bounds_.least_from(i + 1, key_.end);
    least.resize(at(costs(i).num_outputs()), kForbidden);
    for (int layout = 0; layout < static_cast<int>(least.size()); ++layout) {
      least[at(layout)] -= bounds_.saving_after(i, layout);
    }
    return least;
  }

  // Options of each block that a path within the limit could use.
  void make_pools() {
    std::map<int, Matrix> limits;  // by block
    std::map<int, int> layer_of;
    std::set<int> ends;  // blocks that not every chunk has
    for (int i = key_.begin; i < key_.end; ++i) {
      const int layer = chain_.layers[at(i)];
      const int block = model_.block_of(layer);
      const std::vector<double> before = least_before(i);
      const std::vector<double> after = least_after(i);
      const auto [entry, is_new] = limits.try_emplace(
          block,
          Matrix(static_cast<int>(before.size()), static_cast<int>(after.size()), -kForbidden));
      layer_of[block] = layer;
      if (chain_.times(i) < chain_.chunks) {
        ends.insert(block);
      }
      for (int input = 0; input < entry->second.rows; ++input) {
        for (int output = 0; output < entry->second.columns; ++output) {
          if (before[at(input)] < kForbidden && after[at(output)] < kForbidden) {
            double& limit = entry->second(input, output);
            limit = std::max(
                limit, widened((limit_ - before[at(input)] - after[at(output)]) / chain_.times(i)));
          }
        }
      }
    }
    for (const auto& [block, limit] : limits) {
      Criteria criteria;
      criteria.joint_time = request_.joint_time;
      criteria.splits_forward = request_.splits_forward;
      criteria.memory = uses_memory_;
      criteria.in_flight = key_.in_flight;
      criteria.splits_memory = key_.stages > 0;
      criteria.compares_equal_saved = ends.contains(block);
      criteria.keeps_all = request_.level == FrontLevel::kExact;
      criteria.deadline = &model_.deadline();
      criteria.most_labels = criteria.keeps_all ? 200'000 : 4'000'000;
      BlockOptions& block_options = model_.options(key_.shape, layer_of[block], search_.tie_);
      OptionSet set = block_options.find(weights_, limit, criteria);
      front_->is_complete &= set.is_complete;
      if (criteria.keeps_all) {
        make_exact(block_options, criteria, set.options);
      }
      auto pool = std::make_unique<std::vector<Option>>(std::move(set.options));
      std::vector<std::vector<Option*>>& by_output = pools_[block];
      by_output.resize(at(block_options.num_outputs()));
      for (Option& option : *pool) {
        by_output[at(option.output)].push_back(&option);
      }
      front_->pools.push_back(std::move(pool));
    }
  }

  // With exact transients the usual dominance holds again.
  void make_exact(const BlockOptions& block_options,
                  const Criteria& criteria,
                  std::vector<Option>& options) const {
    for (Option& option : options) {
      model_.deadline().check();
      option.transient = block_options.exact_transient(option);
      option.is_transient_exact = true;
    }
    std::vector<Option> kept;
    const auto beats = [&](const Option& a, const Option& b) {
      return a.input == b.input && a.output == b.output && a.signature == b.signature &&
             a.cost.forward <= b.cost.forward && a.cost.backward <= b.cost.backward &&
             a.cost.per_step <= b.cost.per_step && holds_less(a.cost, b.cost, criteria) &&
             a.transient <= b.transient + spared(a.cost, b.cost, criteria) &&
             (a.saves_input || !b.saves_input) && (a.saves_output || !b.saves_output);
    };
    for (const Option& option : options) {
      model_.deadline().check();
      if (std::none_of(
              kept.begin(), kept.end(), [&](const Option& k) { return beats(k, option); })) {
        std::erase_if(kept, [&](const Option& k) { return beats(option, k); });
        kept.push_back(option);
      }
    }
    options = std::move(kept);
  }

  // b is nowhere better than a, memory aside.
  bool is_slower(const Label& b, const Label& a) const {
    if (a.signature != b.signature || a.inner_input != b.inner_input ||
        a.inner_output != b.inner_output) {
      return false;
    }
    if (request_.joint_time > 0) {
      if (request_.joint_time * (a.forward + a.backward) + a.per_step >
          request_.joint_time * (b.forward + b.backward) + b.per_step) {
        return false;
      }
      return true;
    }
    if (a.per_step > b.per_step) {
      return false;
    }
    return request_.splits_forward ? a.forward <= b.forward && a.backward <= b.backward
                                   : a.forward + a.backward <= b.forward + b.backward;
  }

  bool is_beaten(const Label& b, const Label& a) const {
    if (!is_slower(b, a)) {
      return false;
    }
    return !uses_memory_ ||
           ((a.saves_input || !b.saves_input) &&
            (key_.stages > 0 ? holds_less_by_part(a, b) : holds_less_in_all(a, b)));
  }

  // Layers before may need for a while what those behind their run have freed.
  static bool holds_less_in_all(const Label& a, const Label& b) {
    return a.memory <= b.memory && a.memory + a.transient <= b.memory + b.transient &&
           a.memory - a.kept <= b.memory - b.kept &&
           a.memory - a.kept_behind <= b.memory - b.kept_behind;
  }

  // What unequal chunks hold grows with each part, not with their sum.
  bool holds_less_by_part(const Label& a, const Label& b) const {
    const auto of_decoders = [&](const Label& label) {
      return label.memory - label.state - label.ends_saved;
    };
    return a.state <= b.state && a.ends_saved <= b.ends_saved && of_decoders(a) <= of_decoders(b) &&
           a.transient <= b.transient;
  }

  void walk(int output) {
    labels_.clear();
    Label start;
    start.layout = output;
    labels_.push_back(start);
    std::vector<std::vector<int>> here(at(costs(key_.end - 1).num_outputs()));
    here[at(output)].push_back(0);
    for (int i = key_.end - 1; i >= key_.begin; --i) {
      here = step(i, here);
    }
    for (std::vector<int>& front : here) {
      add_points(front, output);
    }
  }

  std::vector<std::vector<int>> step(int i, const std::vector<std::vector<int>>& here) {
    const int block = model_.block_of(chain_.layers[at(i)]);
    const std::vector<double> before = least_before(i);
    std::vector<double> memory_before(before.size(), 0);
    if (uses_memory_ && i > key_.begin) {
      ChainBounds& memory = search_.memory_bounds(key_);
      memory_before = memory.least_to(key_.begin, i);
      for (int layout = 0; layout < static_cast<int>(memory_before.size()); ++layout) {
        memory_before[at(layout)] -= memory.saving_after(i - 1, layout);
      }
      memory_before.resize(before.size(), kForbidden);
    }
    std::vector<std::vector<int>> next(before.size());
    const std::vector<std::vector<Option*>>& pool = pools_[block];
    for (std::size_t layout = 0; layout < std::min(here.size(), pool.size()); ++layout) {
      for (const Option* option : pool[layout]) {
        const double rest = before[at(option->input)];
        const double least_memory = memory_before[at(option->input)];
        for (const int label : here[layout]) {
          model_.deadline().check();
          const Label longer = extend(i, label, *option);
          const bool fits_memory =
              !uses_memory_ ||
              static_cast<double>(longer.memory + longer.transient) + least_memory <=
                  static_cast<double>(memory_limit_) + 1;
          if (longer.value + rest <= limit_ && fits_memory) {
            insert(next[at(option->input)], longer);
          }
        }
      }
    }
    return next;
  }

  Label extend(int i, int label, const Option& option) {
    const Label& from = labels_[at(label)];
    const int times = chain_.times(i);
    Label longer = from;
    longer.forward += times * option.cost.forward;
    longer.backward += times * option.cost.backward;
    longer.per_step += times * option.cost.per_step;
    const std::int64_t saved = times * option.cost.saved;
    std::int64_t shared = 0;
    if (i + 1 < key_.end && option.saves_output && from.saves_input) {
      shared = std::min(times, chain_.times(i + 1)) * costs(i + 1).input_bytes(from.layout);
    }
    longer.memory += times * option.cost.state + held(i, saved, shared);
    longer.state += times * option.cost.state;
    // What embedding or head share with their neighbour is theirs.
    const bool is_end = i == 0 || i + 1 == chain_.size();
    longer.ends_saved += is_end ? saved - shared : 0;
    longer.ends_saved -= i + 2 == chain_.size() ? shared : 0;
    if (search_.frees_behind()) {
      const bool is_new_run = i + 1 < key_.end && model_.block_of(chain_.layers[at(i)]) !=
                                                      model_.block_of(chain_.layers[at(i + 1)]);
      longer.kept_behind = is_new_run ? from.kept - shared : from.kept_behind;
      longer.kept = from.kept + saved - shared;
    }
    longer.transient = std::max(longer.transient, option.transient - longer.kept_behind);
    longer.value = static_cast<double>(longer.forward + longer.backward) +
                   weights_.step * static_cast<double>(longer.per_step) +
                   weights_.memory * static_cast<double>(longer.memory);
    longer.layout = option.input;
    longer.signature = std::max<std::int64_t>(longer.signature, option.signature);
    if (i == 0 && search_.tie_ != TieCase::kNone) {
      constexpr std::int64_t kMostSignatures = std::int64_t{1} << 21;
      longer.signature = (option.signature + 1) * kMostSignatures + from.signature + 1;
    }
    longer.saves_input = option.saves_input;
    if (chain_.chunks > 1) {
      if (i + 1 == key_.end - (key_.end == chain_.size() ? 1 : 0)) {
        longer.inner_output = option.output;
      }
      if (i == std::max(key_.begin, 1)) {
        longer.inner_input = option.input;
      }
    }
    longer.parent = label;
    longer.option = &option;
    return i == 0 ? tie(longer, from.signature) : longer;
  }

  // Activations of the layer and all its chunks in flight, what it shares with the next one taken
  // off. Folded chains: when as many passes are in flight as ever are, at least one of them is of
  // the chunk that embedding or head stand in.
  std::int64_t held(int i, std::int64_t saved, std::int64_t shared) const {
    if (key_.stages == 0) {
      return key_.in_flight * (saved - shared);
    }
    if (i == 0 || i + 1 == chain_.size()) {
      return saved - shared;
    }
    const std::int64_t chunks = chain_.chunks;
    return i + 2 == chain_.size() ? passes_ * (saved / chunks) - shared
                                  : passes_ * ((saved - shared) / chunks);
  }

  // Embedding and head in one stage: what the tie asks of them. A label that it forbids gets an
  // impossible value.
  Label tie(Label label, std::int64_t alias_signature) const {
    if (search_.tie_ == TieCase::kNone || key_.end < chain_.size()) {
      return label;
    }
    const bool is_shared = label.option->signature == alias_signature;
    if (is_shared != (search_.tie_ == TieCase::kShared)) {
      label.value = kForbidden;
    }
    return label;
  }

  void insert(std::vector<int>& front, const Label& label) {
    // What has beaten others will beat more: it is asked sooner each time.
    for (std::size_t i = 0; i < front.size(); ++i) {
      if (is_beaten(label, labels_[at(front[i])])) {
        std::swap(front[i], front[i / 2]);
        return;
      }
    }
    std::erase_if(front, [&](int other) { return is_beaten(labels_[at(other)], label); });
    front.push_back(static_cast<int>(labels_.size()));
    labels_.push_back(label);
  }

  // What fits beats all that is nowhere faster: memory has no further say.
  void add_points(std::vector<int>& front, int output) {
    std::sort(front.begin(), front.end(), [&](int a, int b) {
      const Label& x = labels_[at(a)];
      const Label& y = labels_[at(b)];
      return std::tuple(x.forward + x.backward, x.per_step, a) <
             std::tuple(y.forward + y.backward, y.per_step, b);
    });
    std::vector<int> fitting;
    for (const int label : front) {
      model_.deadline().check();
      if (std::none_of(fitting.begin(), fitting.end(), [&](int other) {
            return is_slower(labels_[at(label)], labels_[at(other)]);
          })) {
        if (add_point(label, output)) {
          fitting.push_back(label);
        }
      }
    }
  }

  // True if the point fits for certain.
  bool add_point(int label, int output) {
    const Label& last = labels_[at(label)];
    StagePoint point;
    point.input = last.layout;
    point.output = output;
    point.forward = last.forward;
    point.backward = last.backward;
    point.per_step = last.per_step;
    for (int l = label; labels_[at(l)].option != nullptr; l = labels_[at(l)].parent) {
      point.options.push_back(labels_[at(l)].option);
    }
    point.memory = search_.memory_of(key_, point.options);
    if (uses_memory_ && point.memory > memory_limit_) {
      return false;
    }
    for (int i = key_.begin; i < key_.end; ++i) {
      verify(i, point.options[at(i - key_.begin)]);
    }
    const std::int64_t memory = search_.memory_of(key_, exact_options(point));
    point.is_verified = memory <= memory_limit_;
    if (point.is_verified) {
      point.memory = memory;
    } else if (request_.level == FrontLevel::kExact) {
      return false;
    }
    front_->points.push_back(std::move(point));
    return front_->points.back().is_verified;
  }

  // Remembers the option with its exact transient.
  void verify(int i, const Option* option) {
    const auto [entry, is_new] = exact_.try_emplace(option);
    if (is_new) {
      entry->second = std::make_unique<Option>(*option);
      if (!option->is_transient_exact) {
        entry->second->transient = costs(i).exact_transient(*option);
        SHARDWISE_CHECK(entry->second->transient >= option->transient,
                        "transient memory is bounded from below");
      }
    }
  }

  std::vector<const Option*> exact_options(const StagePoint& point) const {
    std::vector<const Option*> options;
    for (const Option* option : point.options) {
      options.push_back(exact_.at(option).get());
    }
    return options;
  }

  StageSearch& search_;
  Problem& model_;
  const LayerChain& chain_;
  const FrontRequest& request_;
  const StageKey key_;
  const bool uses_memory_;
  const int passes_;  // folded chains: most in flight
  const Weights weights_;
  ChainBounds& bounds_;
  const std::int64_t memory_limit_;
  const double limit_;
  std::unique_ptr<StageFront> front_;
  std::map<int, std::vector<std::vector<Option*>>> pools_;  // [block][output layout]
  std::map<const Option*, std::unique_ptr<Option>> exact_;  // looked up only
  std::vector<Label> labels_;
};

const StageFront& StageSearch::front(const FrontRequest& request) {
  KnownFront& known = fronts_[{
      request.key, request.level, request.step_weight, request.joint_time, request.splits_forward}];
  if (known.front == nullptr || known.limit < request.limit) {
    double multiplier = 0;
    if (request.level != FrontLevel::kTimes) {
      bound(request.key, request.step_weight);
      multiplier = dual_of(request.key, request.step_weight).best_multiplier;
    }
    known.limit = request.limit;
    known.front = FrontBuilder(*this, request, multiplier).build();
  }
  return *known.front;
}

}  // namespace shardwise::planning
