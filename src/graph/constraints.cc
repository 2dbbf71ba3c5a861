#include "graph/constraints.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/errors.h"

namespace shardwise {

namespace {

using Polarity = Constraint::Polarity;
using Subject = Constraint::Subject;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

// Value of the digits that `text` begins with, cut off from it.
std::int64_t take_number(std::string_view& text) {
  std::int64_t number = 0;
  while (!text.empty() && is_digit(text.front())) {
    number = std::min<std::int64_t>(number * 10 + (text.front() - '0'), 1'000'000'000);
    text.remove_prefix(1);
  }
  return number;
}

// "[3-7]..." against "5...": both cut behind the number.
bool takes_range(std::string_view& pattern, std::string_view& name) {
  if (name.empty() || !is_digit(name.front())) {
    return false;
  }
  pattern.remove_prefix(1);
  const std::int64_t first = take_number(pattern);
  std::int64_t last = first;
  if (!pattern.empty() && pattern.front() == '-') {
    pattern.remove_prefix(1);
    last = take_number(pattern);
  }
  if (pattern.empty() || pattern.front() != ']') {
    return false;
  }
  pattern.remove_prefix(1);
  const std::int64_t number = take_number(name);
  return first <= number && number <= last;
}

std::span<const std::string_view> axes_of(std::string_view key) {
  static constexpr std::array<std::string_view, 2> kData{"b", "xb"};
  static constexpr std::array<std::string_view, 4> kTensor{"n", "r", "f", "v"};
  static constexpr std::array<std::string_view, 2> kSequence{"s", "xs"};
  static constexpr std::array<std::string_view, 3> kExperts{"e", "xb", "xs"};
  return key == "data"       ? std::span<const std::string_view>(kData)
         : key == "tensor"   ? std::span<const std::string_view>(kTensor)
         : key == "sequence" ? std::span<const std::string_view>(kSequence)
                             : std::span<const std::string_view>(kExperts);
}

bool is_one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Whether the op has an axis of the group that may be sharded.
bool speaks_of(std::string_view key, const Op& op) {
  return std::any_of(op.axes.begin(), op.axes.end(), [&](const LoopAxis& axis) {
    return axis.sharding != AxisSharding::kNever && is_one_of(axis.name, axes_of(key));
  });
}

std::int64_t degree_of(std::string_view key,
                       const Op& op,
                       const AxisAssignment& assignment,
                       const Mesh& mesh) {
  std::int64_t degree = 1;
  for (int m = 0; m < kMeshAxes; ++m) {
    const int axis = assignment[at(m)];
    if (axis != kUnassigned && is_one_of(op.axes[at(axis)].name, axes_of(key))) {
      degree *= mesh.sizes[at(m)];
    }
  }
  return degree;
}

int dimension_of(const Constraint& constraint) { return constraint.key.back() - '0'; }

std::int64_t input_degree(const Constraint& constraint, const Layout& input, const Mesh& mesh) {
  std::int64_t degree = 1;
  for (int m = 0; m < kMeshAxes; ++m) {
    if (input[at(m)] == AxisLayout::shard(dimension_of(constraint))) {
      degree *= mesh.sizes[at(m)];
    }
  }
  return degree;
}

bool allows_value(const Constraint& constraint, std::int64_t value) {
  const bool is_listed = std::find(constraint.values.begin(), constraint.values.end(), value) !=
                         constraint.values.end();
  return is_listed == (constraint.polarity == Polarity::kPin);
}

// Number of values that the subject can take, or 0: unlimited.
std::int64_t num_values(Subject subject) {
  return subject == Subject::kRecompute ? 3 : subject == Subject::kState ? 4 : 0;
}

bool leave_nothing(const Constraint& a, const Constraint& b) {
  if (a.subject != b.subject || a.key != b.key) {
    return false;
  }
  if (a.subject == Subject::kCut) {
    return a.polarity != b.polarity;
  }
  if (a.polarity == Polarity::kForbid && b.polarity == Polarity::kForbid) {
    for (std::int64_t value = 0; value < num_values(a.subject); ++value) {
      if (allows_value(a, value) && allows_value(b, value)) {
        return false;
      }
    }
    return num_values(a.subject) > 0;
  }
  const Constraint& pin = a.polarity == Polarity::kPin ? a : b;
  const Constraint& other = a.polarity == Polarity::kPin ? b : a;
  return std::none_of(pin.values.begin(), pin.values.end(), [&](std::int64_t value) {
    return allows_value(other, value);
  });
}

std::string names_of_layers(const Graph& graph) {
  std::string names;
  const std::size_t count = graph.layers.size();
  for (std::size_t layer = 0; layer < count; ++layer) {
    if (layer < 3 || layer + 2 >= count) {
      names += (names.empty() ? "" : ", ") + graph.layers[layer].name;
    } else if (layer == 3) {
      names += ", ...";
    }
  }
  return names;
}

void check_places(const Constraint& constraint, const Graph& graph, const std::string& where) {
  bool matches = false;
  for (int layer = 0; layer < static_cast<int>(graph.layers.size()); ++layer) {
    const std::string& name = graph.layers[at(layer)].name;
    if (!matches_layer(constraint.layers, name)) {
      continue;
    }
    matches = true;
    const bool is_pinned_cut =
        constraint.subject == Subject::kCut && constraint.polarity == Polarity::kPin;
    if (is_pinned_cut && layer == 0) {
      throw InputError(where,
                       fmt::format("\"{}\": expected a layer after the first, found {}, which "
                                   "always begins a stage",
                                   constraint.text,
                                   name));
    }
    const Block& block = graph.block_of(layer);
    if (constraint.subject == Subject::kBoundary && !block.inputs.empty()) {
      const std::size_t dims = block.tensors[at(block.inputs[0])].shape.size();
      if (at(dimension_of(constraint)) >= dims) {
        throw InputError(where,
                         fmt::format("\"{}\": expected a dimension below {}, which the tensor "
                                     "that enters {} has, found {}",
                                     constraint.text,
                                     dims,
                                     name,
                                     dimension_of(constraint)));
      }
    }
  }
  if (!matches) {
    throw InputError(where,
                     fmt::format("\"{}\": expected a pattern of layer names, found \"{}\", which "
                                 "fits none; the layers are {}",
                                 constraint.text,
                                 constraint.layers,
                                 names_of_layers(graph)));
  }
}

}  // namespace

bool matches_layer(std::string_view pattern, std::string_view name) {
  while (!pattern.empty()) {
    if (pattern.front() == '*') {
      pattern.remove_prefix(1);
      for (std::size_t skip = 0; skip <= name.size(); ++skip) {
        if (matches_layer(pattern, name.substr(skip))) {
          return true;
        }
      }
      return false;
    }
    if (pattern.front() == '[') {
      if (!takes_range(pattern, name)) {
        return false;
      }
      continue;
    }
    if (name.empty() || (pattern.front() != '?' && pattern.front() != name.front())) {
      return false;
    }
    pattern.remove_prefix(1);
    name.remove_prefix(1);
  }
  return name.empty();
}

void check_constraints(const Constraints& constraints,
                       const Graph& graph,
                       const std::string& where) {
  for (const Constraint& constraint : constraints) {
    check_places(constraint, graph, where);
  }
  for (const Layer& layer : graph.layers) {
    const std::vector<int> here = constraints_on(constraints, layer.name);
    for (std::size_t i = 0; i < here.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        const Constraint& a = constraints[at(here[j])];
        const Constraint& b = constraints[at(here[i])];
        if (leave_nothing(a, b)) {
          throw InputError(where,
                           fmt::format("\"{}\" and \"{}\" contradict each other in {}: together "
                                       "they leave no value; drop one",
                                       a.text,
                                       b.text,
                                       layer.name));
        }
      }
    }
  }
}

std::vector<int> constraints_on(const Constraints& constraints, std::string_view layer) {
  std::vector<int> numbers;
  for (int i = 0; i < static_cast<int>(constraints.size()); ++i) {
    if (matches_layer(constraints[at(i)].layers, layer)) {
      numbers.push_back(i);
    }
  }
  return numbers;
}

bool allows_assignment(const Constraint& constraint,
                       const Op& op,
                       const AxisAssignment& assignment,
                       const Mesh& mesh) {
  return constraint.subject != Subject::kDegree || !speaks_of(constraint.key, op) ||
         allows_value(constraint, degree_of(constraint.key, op, assignment, mesh));
}

bool allows_input(const Constraint& constraint, const Layout& input, const Mesh& mesh) {
  return constraint.subject != Subject::kBoundary ||
         allows_value(constraint, input_degree(constraint, input, mesh));
}

bool allows_mode(const Constraint& constraint, StateSharding state, Recompute recompute) {
  switch (constraint.subject) {
    case Subject::kRecompute:
      return allows_value(constraint, static_cast<std::int64_t>(recompute));
    case Subject::kState:
      return allows_value(constraint, static_cast<std::int64_t>(state));
    default:
      return true;
  }
}

bool allows_cut(const Constraint& constraint, StageBegin begin) {
  return constraint.subject != Subject::kCut ||
         (begin == StageBegin::kHere) == (constraint.polarity == Polarity::kPin);
}

std::vector<std::string> constraint_violations(const Constraints& constraints,
                                               const Plan& plan,
                                               const Graph& graph) {
  std::vector<std::string> violations;
  for (int layer = 0; layer < static_cast<int>(graph.layers.size()); ++layer) {
    const std::string& name = graph.layers[at(layer)].name;
    const LayerPlace place = place_of(plan, layer);
    const LayerPlan& chosen = layer_plan(plan, place);
    const Mesh& mesh = plan.stages[at(place.stage)].mesh;
    const Block& block = graph.block_of(layer);
    for (const int number : constraints_on(constraints, name)) {
      const Constraint& constraint = constraints[at(number)];
      const auto add = [&](const std::string& what) {
        violations.push_back(fmt::format("\"{}\": {} {}", constraint.text, name, what));
      };
      for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
        const Op& op = block.ops[at(o)];
        if (!allows_assignment(constraint, op, chosen.op_axes[at(o)], mesh)) {
          add(fmt::format("has degree {} in {}",
                          degree_of(constraint.key, op, chosen.op_axes[at(o)], mesh),
                          op.name));
        }
      }
      if (layer > 0 && !allows_input(constraint, chosen.input_layout, mesh)) {
        add(fmt::format("has a boundary sharded {} ways",
                        input_degree(constraint, chosen.input_layout, mesh)));
      }
      if (!allows_mode(constraint, chosen.state_sharding, chosen.recompute)) {
        add(fmt::format("has state {} and recompute {}",
                        to_string(chosen.state_sharding),
                        to_string(chosen.recompute)));
      }
      const StageBegin begin = place.index == 0 ? StageBegin::kHere : StageBegin::kEarlier;
      if (layer > 0 && !allows_cut(constraint, begin)) {
        add(begin == StageBegin::kHere ? "begins a stage" : "begins no stage");
      }
    }
  }
  return violations;
}

}  // namespace shardwise
