#include "planner/listed_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "planner/elimination.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr int kMostLayouts = 250;
constexpr std::size_t kMostOptions = 4000;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw InputError("listed problem: " + where, what);
}

// Whether `a` is nowhere worse than `b`; both between the same states.
bool beats(const Option& a, const Option& b, const Criteria& criteria) {
  const auto joint = [&](const Option& o) {
    return criteria.joint_time * o.cost.time() + o.cost.per_step;
  };
  if (criteria.joint_time > 0) {
    if (joint(a) > joint(b)) {
      return false;
    }
  } else if (a.cost.per_step > b.cost.per_step || a.cost.time() > b.cost.time() ||
             (criteria.splits_forward &&
              (a.cost.forward > b.cost.forward || a.cost.backward > b.cost.backward))) {
    return false;
  }
  const auto held = [&](const Option& o) {
    return o.cost.state + criteria.in_flight * o.cost.saved;
  };
  return !criteria.memory || (held(a) <= held(b) && a.transient <= b.transient);
}

}  // namespace

// --- options of a layer -------------------------------------------------------------------------

ListedOptions::ListedOptions(int num_layouts, std::vector<Option> options, const Deadline& deadline)
    : num_layouts_(num_layouts), options_(std::move(options)), deadline_(deadline) {
  std::stable_sort(options_.begin(), options_.end(), [](const Option& a, const Option& b) {
    return std::pair(a.input, a.output) < std::pair(b.input, b.output);
  });
}

BlockBound ListedOptions::bound(const Weights& weights) {
  deadline_.check();
  BlockBound bound{Matrix(num_inputs(), num_outputs(), kForbidden),
                   std::vector<int>(at(num_inputs() * num_outputs()), -1)};
  for (const Option& option : options_) {
    const std::size_t place = at(option.input * num_outputs() + option.output);
    const double value = weights.of(option.cost);
    if (value < bound.minimum.values[place]) {
      bound.minimum.values[place] = value;
      bound.mode[place] = 0;
    }
  }
  return bound;
}

std::optional<Option> ListedOptions::minimiser(const Weights& weights,
                                               int /*mode*/,
                                               int input,
                                               int output) {
  const Option* best = nullptr;
  for (const Option& option : options_) {
    if (option.input == input && option.output == output &&
        (best == nullptr || weights.of(option.cost) < weights.of(best->cost))) {
      best = &option;
    }
  }
  return best == nullptr ? std::nullopt : std::optional<Option>(*best);
}

std::int64_t ListedOptions::least_transient() {
  const auto least =
      std::min_element(options_.begin(), options_.end(), [](const Option& a, const Option& b) {
        return a.transient < b.transient;
      });
  return least == options_.end() ? 0 : least->transient;
}

OptionSet ListedOptions::find(const Weights& weights,
                              const Matrix& limit,
                              const Criteria& criteria) {
  OptionSet set;
  std::size_t first = 0;  // of the same states, in the set
  for (const Option& option : options_) {
    deadline_.check();
    if (weights.of(option.cost) > limit(option.input, option.output)) {
      continue;
    }
    std::vector<Option>& found = set.options;
    if (!found.empty() &&
        (found.back().input != option.input || found.back().output != option.output)) {
      first = found.size();
    }
    const auto begin = found.begin() + static_cast<std::ptrdiff_t>(first);
    if (std::any_of(
            begin, found.end(), [&](const Option& o) { return beats(o, option, criteria); })) {
      continue;
    }
    found.erase(
        std::remove_if(
            begin, found.end(), [&](const Option& o) { return beats(option, o, criteria); }),
        found.end());
    found.push_back(option);
  }
  return set;
}

// --- the problem --------------------------------------------------------------------------------

ListedModel::ListedModel(const ListedProblem& problem, const Deadline& deadline)
    : problem_(problem), deadline_(deadline) {
  check();
  for (const auto& by_mesh : problem.options) {
    for (const std::vector<ListedOption>& options : by_mesh) {
      for (const ListedOption& option : options) {
        num_layouts_ = std::max({num_layouts_, option.input + 1, option.output + 1});
      }
    }
  }
  std::vector<int> counts;
  std::vector<std::vector<int>> sizes(problem.types.size());
  for (const ListedType& type : problem.types) {
    counts.push_back(type.devices);
  }
  for (int mesh = 0; mesh < static_cast<int>(problem.meshes.size()); ++mesh) {
    const ListedMesh& what = problem.meshes[at(mesh)];
    std::vector<int>& shapes = shapes_[{what.type, what.devices}];
    if (shapes.empty()) {
      sizes[at(what.type)].push_back(what.devices);
    }
    shapes.push_back(mesh);
  }
  for (std::vector<int>& of_type : sizes) {
    std::sort(of_type.begin(), of_type.end());
  }
  places_ = std::make_unique<StagePlaces>(counts, sizes);
  const int num_blocks = static_cast<int>(problem.options.size());
  for (int layer = 0; layer < num_layers(); ++layer) {
    const int before = layer == 0 ? num_blocks : problem.layers[at(layer - 1)];
    blocks_.push_back(before * num_blocks + problem.layers[at(layer)]);
  }
}

void ListedModel::check() const {
  const auto in_range = [](int index, std::size_t size) { return index >= 0 && at(index) < size; };
  if (problem_.layers.empty() || problem_.num_microbatches < 1) {
    refuse("layers", "expected a layer and a micro-batch at least");
  }
  std::int64_t states = 1;
  for (const ListedType& type : problem_.types) {
    if (type.devices < 0 || type.memory.count < 0) {
      refuse("types." + type.name, "expected a number of devices and a memory of at least 0");
    }
    states *= type.devices + 1;
    if (states > 10'000'000) {
      refuse("types", "expected at most 10,000,000 ways to divide the devices of all types");
    }
  }
  for (const ListedMesh& mesh : problem_.meshes) {
    if (!in_range(mesh.type, problem_.types.size()) || mesh.devices < 1) {
      refuse("meshes." + mesh.name, "expected a known type and at least one device");
    }
  }
  for (const Schedule schedule : problem_.schedules) {
    if (schedule == Schedule::kInterleaved) {
      refuse("schedules", "interleaved stages need a graph; expected gpipe, 1f1b or 1f1b-eager");
    }
  }
  for (const int block : problem_.layers) {
    if (!in_range(block, problem_.options.size())) {
      refuse("layers", fmt::format("block {} has no options", block));
    }
  }
  for (std::size_t block = 0; block < problem_.options.size(); ++block) {
    const std::string where = fmt::format("options[{}]", block);
    if (problem_.options[block].size() != problem_.meshes.size()) {
      refuse(where, fmt::format("expected a list for each of {} meshes", problem_.meshes.size()));
    }
    for (const std::vector<ListedOption>& options : problem_.options[block]) {
      if (options.size() > kMostOptions) {
        refuse(where,
               fmt::format("expected at most {} options, found {}", kMostOptions, options.size()));
      }
      for (const ListedOption& o : options) {
        if (std::min({o.forward.count, o.backward.count, o.per_step.count}) < 0 ||
            std::min({o.state.count, o.activations.count, o.transient.count}) < 0) {
          refuse(where, "expected times and sizes of at least 0");
        }
        if (o.input < 0 || o.output < 0 || std::max(o.input, o.output) >= kMostLayouts) {
          refuse(where, fmt::format("expected layouts from 0 to {}", kMostLayouts - 1));
        }
      }
    }
  }
}

// Options of `block` on `mesh` behind each layout that a layer of block `before` may end in, and at
// the beginning of a stage.
std::vector<Option> ListedModel::compose(int mesh, int block, int before) const {
  std::vector<Option> composed;
  std::vector<bool> is_left(at(num_layouts_), false);  // by the layer before
  const bool is_first = before == static_cast<int>(problem_.options.size());
  if (!is_first) {
    for (const ListedOption& option : problem_.options[at(before)][at(mesh)]) {
      is_left[at(option.output)] = true;
    }
  }
  const std::vector<ListedOption>& options = problem_.options[at(block)][at(mesh)];
  for (int i = 0; i < static_cast<int>(options.size()); ++i) {
    const ListedOption& from = options[at(i)];
    Option option;
    option.listed = i;
    option.cost = {from.forward.count,
                   from.backward.count,
                   from.per_step.count,
                   from.state.count,
                   from.activations.count};
    option.transient = from.transient.count;
    option.is_transient_exact = true;
    option.output = from.output;
    option.input = num_layouts_ + from.input;
    composed.push_back(option);
    for (int layout = 0; layout < num_layouts_; ++layout) {
      if (!is_left[at(layout)]) {
        continue;
      }
      ListedMove move;
      if (problem_.reshard) {
        const std::optional<ListedMove> known = problem_.reshard(before, mesh, layout, from.input);
        if (!known) {
          continue;
        }
        move = *known;
        if (std::min(move.forward.count, move.backward.count) < 0) {
          refuse(fmt::format("reshard behind block {}", before), "expected times of at least 0");
        }
      } else if (layout != from.input) {
        continue;
      }
      Option moved = option;
      moved.input = layout;
      moved.cost.forward += move.forward.count;
      moved.cost.backward += move.backward.count;
      composed.push_back(moved);
    }
  }
  return composed;
}

BlockOptions& ListedModel::options(int shape, int layer, TieCase /*tie*/) {
  const int number = blocks_[at(layer)];
  std::unique_ptr<ListedOptions>& known = options_[{shape, number}];
  if (known == nullptr) {
    deadline_.check();
    const int num_blocks = static_cast<int>(problem_.options.size());
    known = std::make_unique<ListedOptions>(
        num_layouts_, compose(shape, number % num_blocks, number / num_blocks), deadline_);
  }
  return *known;
}

const std::vector<int>& ListedModel::shapes_at(const StagePlace& place) {
  return shapes_[{place.type, place.size}];
}

std::int64_t ListedModel::memory_limit(int shape) const {
  return problem_.types[at(problem_.meshes[at(shape)].type)].memory.count;
}

Transfer ListedModel::transfer(int layer, const StageEnd& sender, const StageEnd& receiver) {
  if (receiver.state < num_layouts_) {
    return {0, 0, false};  // no way to begin a stage
  }
  if (!problem_.crossing) {
    return {};
  }
  const std::optional<ListedMove> move = problem_.crossing(problem_.layers[at(layer)],
                                                           sender.shape,
                                                           sender.state,
                                                           receiver.shape,
                                                           receiver.state - num_layouts_);
  if (!move) {
    return {0, 0, false};
  }
  if (std::min(move->forward.count, move->backward.count) < 0) {
    refuse(fmt::format("crossing behind layer {}", layer), "expected times of at least 0");
  }
  return {move->forward.count, move->backward.count, true};
}

ListedPlan ListedModel::plan_of(const PipelineSolution& solution) const {
  ListedPlan plan;
  plan.schedule = solution.schedule;
  for (const StageSolution& from : solution.stages) {
    ListedStage stage{from.shape, from.begin, {}};
    for (const Option& option : from.options) {
      stage.options.push_back(option.listed);
    }
    plan.stages.push_back(std::move(stage));
  }
  return plan;
}

}  // namespace shardwise::planning
