#include "graph/tied.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

namespace {

ParameterPlace find_parameter(const Graph& graph, int layer, TensorIndex tensor) {
  const Block& block = graph.block_of(layer);
  for (std::size_t op = 0; op < block.ops.size(); ++op) {
    for (std::size_t i = 0; i < block.ops[op].parameters.size(); ++i) {
      if (block.ops[op].parameters[i].tensor == tensor) {
        return {layer, static_cast<int>(op), static_cast<int>(i)};
      }
    }
  }
  SHARDWISE_CHECK(false, "a tied tensor is a parameter of its layer");
}

const Op& op_of(const Graph& graph, const ParameterPlace& place) {
  return graph.block_of(place.layer).ops[static_cast<std::size_t>(place.op)];
}

const Operand& operand_of(const Graph& graph, const ParameterPlace& place) {
  return op_of(graph, place).parameters[static_cast<std::size_t>(place.index)];
}

const LayerPlan& layer_plan_of(const Plan& plan, const ParameterPlace& place) {
  return layer_plan(plan, place_of(plan, place.layer));
}

const StagePlan& stage_of(const Plan& plan, const ParameterPlace& place) {
  return plan.stages[static_cast<std::size_t>(place_of(plan, place.layer).stage)];
}

ParameterPlacement placement(const Graph& graph, const Plan& plan, const ParameterPlace& place) {
  return parameter_placement(op_of(graph, place),
                             operand_of(graph, place),
                             layer_plan_of(plan, place).op_axes[static_cast<std::size_t>(place.op)],
                             stage_of(plan, place).mesh);
}

}  // namespace

ParameterPlace owner_of(const Graph& graph, const TiedParameter& tied) {
  return find_parameter(graph, tied.owner_layer, tied.owner_tensor);
}

ParameterPlace alias_of(const Graph& graph, const TiedParameter& tied) {
  return find_parameter(graph, tied.alias_layer, tied.alias_tensor);
}

const TiedParameter* tied_as_alias(const Graph& graph, const ParameterPlace& place) {
  const auto found =
      std::find_if(graph.tied.begin(), graph.tied.end(), [&](const TiedParameter& tied) {
        return tied.alias_layer == place.layer &&
               tied.alias_tensor == operand_of(graph, place).tensor;
      });
  return found == graph.tied.end() ? nullptr : &*found;
}

const TiedParameter* tied_as_owner(const Graph& graph, const ParameterPlace& place) {
  const auto found =
      std::find_if(graph.tied.begin(), graph.tied.end(), [&](const TiedParameter& tied) {
        return tied.owner_layer == place.layer &&
               tied.owner_tensor == operand_of(graph, place).tensor;
      });
  return found == graph.tied.end() ? nullptr : &*found;
}

TiedMode tied_mode(const Graph& graph, const Plan& plan, const TiedParameter& tied) {
  const ParameterPlace owner = owner_of(graph, tied);
  const ParameterPlace alias = alias_of(graph, tied);
  if (place_of(plan, owner.layer).stage != place_of(plan, alias.layer).stage) {
    return TiedMode::kExchanged;
  }
  const ParameterPlacement of_owner = placement(graph, plan, owner);
  const ParameterPlacement of_alias = placement(graph, plan, alias);
  const bool alike =
      of_owner.layout == of_alias.layout && of_owner.gradient == of_alias.gradient &&
      layer_plan_of(plan, owner).state_sharding == layer_plan_of(plan, alias).state_sharding;
  return alike ? TiedMode::kShared : TiedMode::kExchanged;
}

StateSharding parameter_state_sharding(const Graph& graph,
                                       const Plan& plan,
                                       const ParameterPlace& place) {
  const StateSharding of_layer = layer_plan_of(plan, place).state_sharding;
  const TiedParameter* as_alias = tied_as_alias(graph, place);
  if (as_alias != nullptr && tied_mode(graph, plan, *as_alias) == TiedMode::kExchanged) {
    return StateSharding::kNone;
  }
  const TiedParameter* as_owner = tied_as_owner(graph, place);
  if (as_owner != nullptr && tied_mode(graph, plan, *as_owner) == TiedMode::kExchanged) {
    return std::min(of_layer, StateSharding::kGradients);
  }
  return of_layer;
}

TensorPlacement parameter_devices(const Graph& graph,
                                  const Plan& plan,
                                  const ParameterPlace& place) {
  const StagePlan& stage = stage_of(plan, place);
  return {placement(graph, plan, place).layout, stage.mesh, stage.devices};
}

TiedMessages tied_messages(const Graph& graph, const Plan& plan, const TiedParameter& tied) {
  if (tied_mode(graph, plan, tied) == TiedMode::kShared) {
    return {};
  }
  const ParameterPlace owner = owner_of(graph, tied);
  const TensorIndex tensor = operand_of(graph, owner).tensor;
  const std::vector<std::int64_t>& shape =
      graph.block_of(owner.layer).tensors[static_cast<std::size_t>(tensor)].shape;
  const TensorPlacement at_owner = parameter_devices(graph, plan, owner);
  const TensorPlacement at_alias = parameter_devices(graph, plan, alias_of(graph, tied));
  return {redistribution(shape, at_alias, at_owner), redistribution(shape, at_owner, at_alias)};
}

}  // namespace shardwise
