// What a plan must do or must not do: for layers by name pattern, a degree, a layout, a stage cut
// or a recompute choice is pinned (nothing else is allowed) or forbidden. Plain data, its text, and
// a check of any plan; the planner's search asks the same questions of single choices.
//
// Text of a constraint, as flags and files have it: `LAYERS: KEY=VALUE[|VALUE...]`, for example
//
//   layer.*: tensor=4            layer.[0-7]: recompute=none|selective
//   *: state=optimizer           layer.16: cut=before
//
// LAYERS is a name with `*` (any letters), `?` (one) and `[3-7]` (a number); without it: all
// layers.
//
//   data, tensor, sequence, experts   degree: product of the mesh axes that shard these loop axes
//   of
//                                     an op: b and xb; n, r, f and v; s and xs; e, xb and xs. It
//                                     speaks of every op that has such an axis to shard
//   boundary.N                        degree in which dimension N of the tensor that enters the
//   layer
//                                     is sharded (0 the batch, 1 the sequence, 2 the features)
//   recompute                         none, selective, full
//   state                             none, optimizer, gradients, parameters
//   cut                               `before`: a stage (or chunk) begins with the layer
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/plan.h"

namespace shardwise {

struct Constraint {
  enum class Polarity { kPin, kForbid };
  enum class Subject { kDegree, kBoundary, kRecompute, kState, kCut };

  Polarity polarity = Polarity::kPin;
  std::string layers = "*";
  Subject subject = Subject::kDegree;
  std::string key;                   // "tensor", "boundary.1", ...
  std::vector<std::int64_t> values;  // degrees, or numbers of the enumerators; kCut: none
  std::string text;                  // as given, for messages

  bool operator==(const Constraint&) const = default;
};

using Constraints = std::vector<Constraint>;

// Reads one constraint. Throws InputError that begins with `where` (the flag).
Constraint parse_constraint(Constraint::Polarity polarity,
                            const std::string& text,
                            const std::string& where);

bool matches_layer(std::string_view pattern, std::string_view name);

// Throws InputError that begins with `where` for a pattern that fits no layer, a cut before the
// first layer, a dimension that no boundary has, and for two constraints on one layer that leave no
// value: both are named.
void check_constraints(const Constraints& constraints,
                       const Graph& graph,
                       const std::string& where);

// Numbers of the constraints that speak of a layer.
std::vector<int> constraints_on(const Constraints& constraints, std::string_view layer);

// Whether a constraint on a layer allows a single choice; constraints of other subjects allow all.
bool allows_assignment(const Constraint& constraint,
                       const Op& op,
                       const AxisAssignment& assignment,
                       const Mesh& mesh);
bool allows_input(const Constraint& constraint, const Layout& input, const Mesh& mesh);
bool allows_mode(const Constraint& constraint, StateSharding state, Recompute recompute);
enum class StageBegin { kHere, kEarlier };
bool allows_cut(const Constraint& constraint, StageBegin begin);

// What breaks a constraint, as sentences that name constraint, layer and value; empty: nothing.
// Requires a valid plan of the graph (plan_violations).
std::vector<std::string> constraint_violations(const Constraints& constraints,
                                               const Plan& plan,
                                               const Graph& graph);

}  // namespace shardwise
