#include <algorithm>

#include "core/errors.h"
#include "planner/stage_search.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

RunNumbers::RunNumbers(const Problem& problem, const LayerChain& chain)
    : numbers_(at(chain.size() + 1) * at(chain.size() + 1), -1) {
  for (const int layer : chain.layers) {
    blocks_.push_back(problem.block_of(layer));
  }
}

int RunNumbers::of(int begin, int end) {
  int& number = numbers_[at(begin) * (blocks_.size() + 1) + at(end)];
  if (number < 0) {
    const std::vector<int> run(blocks_.begin() + begin, blocks_.begin() + end);
    number = known_.try_emplace(run, static_cast<int>(known_.size())).first->second;
  }
  return number;
}

ChainBounds::ChainBounds(Problem& model,
                         const LayerChain& chain,
                         RunNumbers& numbers,
                         int shape,
                         TieCase tie,
                         const Weights& weights)
    : model_(model),
      chain_(chain),
      numbers_(numbers),
      shape_(shape),
      tie_(tie),
      weights_(weights) {}

Weights ChainBounds::weights_of(int i) const {
  Weights weights = weights_;
  if (chain_.chunks > 1 && i + 1 == chain_.size()) {
    weights.in_flight = 1;
  }
  return weights;
}

const BlockBound& ChainBounds::block(int i) {
  const int layer = chain_.layers[at(i)];
  const int number = model_.block_of(layer);
  const auto known = blocks_.find(number);
  if (known != blocks_.end()) {
    return known->second;
  }
  model_.deadline().check();
  return blocks_.emplace(number, model_.options(shape_, layer, tie_).bound(weights_of(i)))
      .first->second;
}

double ChainBounds::saving_after(int i, int layout) {
  const BlockOptions& options = model_.options(shape_, chain_.layers[at(i)], tie_);
  if (weights_.memory == 0 || !options.may_save_output()) {
    return 0;
  }
  const int times = std::max(chain_.times(i), chain_.times(i + 1));
  return weights_.memory * weights_.in_flight * times *
         static_cast<double>(options.output_bytes(layout));
}

int ChainBounds::first_entry(int i) {
  return model_.options(shape_, chain_.layers[at(i)], tie_).first_entry();
}

const Matrix& ChainBounds::run(int begin, int end) {
  SHARDWISE_CHECK(begin < end, "a run has a layer");
  const std::size_t number = at(numbers_.of(begin, end));
  if (number >= runs_.size()) {
    runs_.resize(number + 1);
  }
  if (runs_[number] != nullptr) {
    return *runs_[number];
  }
  model_.deadline().check();
  const Matrix& first = block(begin).minimum;
  const double times = chain_.times(begin);
  Matrix result(first.rows, first.columns, kForbidden);
  for (std::size_t i = 0; i < first.values.size(); ++i) {
    result.values[i] = times * first.values[i];
  }
  if (begin + 1 < end) {
    const Matrix& rest = run(begin + 1, end);
    Matrix longer(result.rows, rest.columns, kForbidden);
    const int carried = std::min(rest.rows, result.columns);
    for (int middle = 0; middle < carried; ++middle) {
      const double saving = saving_after(begin, middle);
      for (int input = 0; input < result.rows; ++input) {
        const double head = result(input, middle) - saving;
        if (head == kForbidden) {
          continue;
        }
        for (int output = 0; output < rest.columns; ++output) {
          longer(input, output) = std::min(longer(input, output), head + rest(middle, output));
        }
      }
    }
    result = std::move(longer);
  }
  runs_[number] = std::make_unique<Matrix>(std::move(result));
  return *runs_[number];
}

std::vector<double> ChainBounds::least_to(int begin, int end) {
  const Matrix& paths = run(begin, end);
  std::vector<double> least(at(paths.columns), kForbidden);
  for (int i = first_entry(begin); i < paths.rows; ++i) {
    for (int o = 0; o < paths.columns; ++o) {
      least[at(o)] = std::min(least[at(o)], paths(i, o));
    }
  }
  return least;
}

std::vector<double> ChainBounds::least_from(int begin, int end) {
  const Matrix& paths = run(begin, end);
  std::vector<double> least(at(paths.rows), kForbidden);
  for (int i = 0; i < paths.rows; ++i) {
    for (int o = 0; o < paths.columns; ++o) {
      least[at(i)] = std::min(least[at(i)], paths(i, o));
    }
  }
  return least;
}

const std::optional<Option>& ChainBounds::option(int i, int input, int output) {
  const int layer = chain_.layers[at(i)];
  const int number = model_.block_of(layer);
  const auto [entry, is_new] = options_.try_emplace({number, input, output});
  if (is_new) {
    const BlockBound& bound = block(i);
    const int mode = bound.mode[at(input * bound.minimum.columns + output)];
    if (mode >= 0) {
      entry->second =
          model_.options(shape_, layer, tie_).minimiser(weights_of(i), mode, input, output);
    }
  }
  return entry->second;
}

std::optional<std::vector<Option>> ChainBounds::minimiser(int begin, int end) {
  const Matrix& paths = run(begin, end);
  int input = -1;
  int output = -1;
  double least = kForbidden;
  for (int i = first_entry(begin); i < paths.rows; ++i) {
    for (int o = 0; o < paths.columns; ++o) {
      if (paths(i, o) < least) {
        least = paths(i, o);
        input = i;
        output = o;
      }
    }
  }
  return input < 0 ? std::nullopt : minimiser(begin, end, input, output);
}

std::optional<std::vector<Option>> ChainBounds::minimiser(int begin,
                                                          int end,
                                                          int input,
                                                          int output) {
  // Forward along the shortest path: the rest of the run tells the way.
  std::vector<Option> options;
  for (int i = begin; i < end; ++i) {
    const Matrix& here = block(i).minimum;
    const double times = chain_.times(i);
    int best = -1;
    double least = kForbidden;
    if (i + 1 == end) {
      best = here(input, output) < kForbidden ? output : -1;
    } else {
      const Matrix& rest = run(i + 1, end);
      for (int middle = 0; middle < std::min(here.columns, rest.rows); ++middle) {
        const double value =
            times * here(input, middle) - saving_after(i, middle) + rest(middle, output);
        if (value < least) {
          least = value;
          best = middle;
        }
      }
    }
    if (best < 0 || !option(i, input, best)) {
      return std::nullopt;
    }
    options.push_back(*option(i, input, best));
    input = best;
  }
  return options;
}

}  // namespace shardwise::planning
