// Tied parameters (embedding and head) in a plan: when they are one tensor, when two that exchange
// gradients and values, and by which messages. One place, so that cost, lower and runtime agree.
//
//   shared     both uses are in the same stage with equal layout, equal gradient layout and equal
//              state sharding: one tensor, one gradient accumulator, one optimizer state, in the
//              name of the owner. With state sharding none or optimizer the alias's op starts no
//              reduction: the owner's backward comes last and reduces for both. With gradients or
//              parameters each of the two ops reduce-scatters (and gathers) every micro-batch, as
//              any op does; updated values are gathered once, by the owner.
//   exchanged  else: the alias holds weights and an fp32 accumulator, no optimizer state, whatever
//   its
//              layer's state sharding says (none). Once a step its gradient is all-reduced over its
//              own group, sent to the owner's devices (fp32) and added there to the owner's reduced
//              gradient (to the share that a device holds); the updated, gathered values come back
//              (compute type). The owner keeps its weights whole: parameters acts as gradients.
#pragma once

#include <vector>

#include "graph/plan.h"
#include "graph/redistribution.h"

namespace shardwise {

enum class TiedMode { kShared, kExchanged };

// A parameter of a layer: parameters[index] of ops[op] of the layer's block.
struct ParameterPlace {
  int layer = 0;
  int op = 0;
  int index = 0;

  auto operator<=>(const ParameterPlace&) const = default;
};

ParameterPlace owner_of(const Graph& graph, const TiedParameter& tied);
ParameterPlace alias_of(const Graph& graph, const TiedParameter& tied);
// The pair in which this parameter is the alias / the owner, or nullptr.
const TiedParameter* tied_as_alias(const Graph& graph, const ParameterPlace& place);
const TiedParameter* tied_as_owner(const Graph& graph, const ParameterPlace& place);

TiedMode tied_mode(const Graph& graph, const Plan& plan, const TiedParameter& tied);

// State sharding that the parameter really has: its layer's, but for exchanged ties (see above).
StateSharding parameter_state_sharding(const Graph& graph,
                                       const Plan& plan,
                                       const ParameterPlace& place);

// Where the plan puts a parameter: its layout over the devices of its stage.
TensorPlacement parameter_devices(const Graph& graph,
                                  const Plan& plan,
                                  const ParameterPlace& place);

// Messages of an exchanged tie (empty for a shared one), once a step.
struct TiedMessages {
  std::vector<RedistributionMessage> gradients;   // alias -> owner, fp32
  std::vector<RedistributionMessage> parameters;  // owner -> alias, compute type
};
TiedMessages tied_messages(const Graph& graph, const Plan& plan, const TiedParameter& tied);

}  // namespace shardwise
