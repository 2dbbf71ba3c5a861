#include "lower/local_parameters.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

unsigned axes_above_one(const Mesh& mesh) {
  unsigned axes = 0;
  for (int m = 0; m < kMeshAxes; ++m) {
    axes |= mesh.sizes[at(m)] > 1 ? 1U << m : 0U;
  }
  return axes;
}

// Ranks that share this rank's coordinates but on `axes`, in mesh order.
std::vector<int> group_along(const StagePlan& stage, const MeshCoordinates& here, unsigned axes) {
  std::vector<int> ranks;
  for (int i = 0; i < stage.mesh.devices(); ++i) {
    const MeshCoordinates there = coordinates_of(stage.mesh, i);
    bool is_member = true;
    for (int m = 0; m < kMeshAxes; ++m) {
      is_member &= (axes >> m & 1U) != 0 || there[at(m)] == here[at(m)];
    }
    if (is_member) {
      ranks.push_back(stage.devices[at(i)]);
    }
  }
  return ranks;
}

unsigned partial_axes(const Layout& layout) {
  unsigned axes = 0;
  for (int m = 0; m < kMeshAxes; ++m) {
    axes |= layout[at(m)].kind == AxisLayout::Kind::kPartial ? 1U << m : 0U;
  }
  return axes;
}

class ParameterLister {
 public:
  ParameterLister(const Plan& plan, const Graph& graph, const RankPlace& place, Program& program)
      : plan_(plan), graph_(graph), place_(place), program_(program) {}

  ParameterIndex list() {
    for (const ChunkPlan& chunk : plan_.stages[at(place_.stage)].chunks) {
      for (int layer = chunk.first_layer; layer < chunk.end_layer(); ++layer) {
        add_layer(layer);
      }
    }
    for (const TiedParameter& tied : graph_.tied) {
      add_tie(tied);
    }
    return std::move(index_);
  }

 private:
  void add_layer(int layer) {
    const Block& block = graph_.block_of(layer);
    for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
      for (int i = 0; i < static_cast<int>(block.ops[at(o)].parameters.size()); ++i) {
        const ParameterPlace use{layer, o, i};
        if (const TiedParameter* tied = tied_as_alias(graph_, use);
            tied == nullptr || tied_mode(graph_, plan_, *tied) == TiedMode::kExchanged) {
          index_[use] = static_cast<int>(program_.parameters.size());
          program_.parameters.push_back(local_parameter(use));
        }
      }
    }
  }

  LocalParameter local_parameter(const ParameterPlace& use) const {
    const StagePlan& stage = plan_.stages[at(place_.stage)];
    const Block& block = graph_.block_of(use.layer);
    const Op& op = block.ops[at(use.op)];
    const Operand& operand = op.parameters[at(use.index)];
    const Tensor& tensor = block.tensors[at(operand.tensor)];
    const LayerPlan& layer = layer_plan(plan_, place_of(plan_, use.layer));
    const ParameterPlacement placement =
        parameter_placement(op, operand, layer.op_axes[at(use.op)], stage.mesh);
    LocalParameter local;
    local.layer = use.layer;
    local.op = use.op;
    local.index = use.index;
    local.uses = {use};
    local.name = graph_.layers[at(use.layer)].prefix + tensor.name;
    local.global_shape = tensor.shape;
    local.shape = local_shape(tensor.shape, placement.layout, stage.mesh);
    local.box = shard_box(tensor.shape, placement.layout, stage.mesh, place_.coordinates);
    local.decays = tensor.decays;
    local.state_sharding = parameter_state_sharding(graph_, plan_, use);
    local.elements = element_count(local.shape);
    local.reduction_degree = placement.reduction_degree;
    local.chunk = (local.elements + local.reduction_degree - 1) / local.reduction_degree;
    const unsigned axes = partial_axes(placement.gradient);
    if (local.reduction_degree > 1) {
      local.group = program_.group_of_axes[axes];
      const std::vector<int>& ranks = program_.groups[at(local.group)];
      local.index_in_group =
          static_cast<int>(std::find(ranks.begin(), ranks.end(), place_.rank) - ranks.begin());
    }
    local.counts_in_norm = counts(placement.layout, axes, local);
    return local;
  }

  // Each element on one rank: the first of those that hold it, or with sharded state the first of
  // those that hold the same share.
  bool counts(const Layout& layout, unsigned group_axes, const LocalParameter& local) const {
    for (int m = 0; m < kMeshAxes; ++m) {
      const bool repeats = layout[at(m)].kind != AxisLayout::Kind::kShard;
      const bool in_group = (group_axes >> m & 1U) != 0;
      if (repeats && !in_group && place_.coordinates[at(m)] != 0) {
        return false;
      }
    }
    return local.state_sharding != StateSharding::kNone || local.index_in_group == 0;
  }

  void add_tie(const TiedParameter& tied) {
    const ParameterPlace owner = owner_of(graph_, tied);
    const ParameterPlace alias = alias_of(graph_, tied);
    if (tied_mode(graph_, plan_, tied) == TiedMode::kShared) {
      if (const auto found = index_.find(owner); found != index_.end()) {
        program_.parameters[at(found->second)].uses.push_back(alias);
        index_[alias] = found->second;
      }
      return;
    }
    const int number = static_cast<int>(&tied - graph_.tied.data());
    TiedExchange exchange;
    exchange.number = number;
    if (const auto found = index_.find(owner); found != index_.end()) {
      exchange.owner_parameter = found->second;
    }
    if (const auto found = index_.find(alias); found != index_.end()) {
      exchange.alias_parameter = found->second;
      LocalParameter& local = program_.parameters[at(found->second)];
      local.tied_owner = static_cast<int>(program_.tied.size());
      local.counts_in_norm = false;
    }
    if (exchange.owner_parameter < 0 && exchange.alias_parameter < 0) {
      return;
    }
    const TiedMessages messages = tied_messages(graph_, plan_, tied);
    const Ends gradients{exchange.alias_parameter, exchange.owner_parameter, 2 * number};
    const Ends values{exchange.owner_parameter, exchange.alias_parameter, 2 * number + 1};
    exchange.gradient_messages = own_messages(messages.gradients, gradients, ElementType::kFloat32);
    exchange.parameter_messages = own_messages(messages.parameters, values, ElementType::kCompute);
    program_.tied.push_back(std::move(exchange));
  }

  // Parameters at the two ends of a redistribution and the tag of its messages.
  struct Ends {
    int sender = -1;
    int receiver = -1;
    int tag = 0;
  };

  std::vector<TiedMessage> own_messages(const std::vector<RedistributionMessage>& messages,
                                        const Ends& ends,
                                        ElementType type) const {
    std::vector<TiedMessage> own;
    const std::int64_t element = element_bytes(type, plan_.precision);
    const auto add = [&](bool sends, int peer, int parameter, const Box& global, int tag) {
      const LocalParameter& local = program_.parameters[at(parameter)];
      own.push_back(
          {sends, peer, tag, local_box(global, local.box), Bytes(global.elements() * element)});
    };
    std::map<std::pair<int, int>, int> between;  // messages so far from one rank to another
    const int ties = 2 * static_cast<int>(graph_.tied.size());
    for (const RedistributionMessage& message : messages) {
      const int tag = ends.tag + ties * between[{message.from_device, message.to_device}]++;
      if (message.from_device == place_.rank) {
        add(true, message.to_device, ends.sender, message.global_box, tag);
      }
      if (message.to_device == place_.rank) {
        add(false, message.from_device, ends.receiver, message.global_box, tag);
      }
    }
    return own;
  }

  const Plan& plan_;
  const Graph& graph_;
  const RankPlace& place_;
  Program& program_;
  ParameterIndex index_;
};

}  // namespace

RankPlace find_rank(const Plan& plan, int rank) {
  for (int s = 0; s < plan.num_stages(); ++s) {
    const std::vector<int>& devices = plan.stages[at(s)].devices;
    const auto found = std::find(devices.begin(), devices.end(), rank);
    if (found != devices.end()) {
      const int index = static_cast<int>(found - devices.begin());
      return {rank, s, index, coordinates_of(plan.stages[at(s)].mesh, index)};
    }
  }
  return {rank, -1, -1, {0, 0, 0}};
}

void add_groups(const StagePlan& stage, const RankPlace& place, Program& program) {
  constexpr unsigned kSets = 1U << kMeshAxes;
  const unsigned real = axes_above_one(stage.mesh);
  program.group_of_axes.assign(kSets, -1);
  for (unsigned axes = 1; axes < kSets; ++axes) {
    if ((axes & real) == axes) {
      program.group_of_axes[axes] = static_cast<int>(program.groups.size());
      program.groups.push_back(group_along(stage, place.coordinates, axes));
    } else if ((axes & real) != 0) {
      program.group_of_axes[axes] = program.group_of_axes[axes & real];
    }
  }
}

ParameterIndex add_parameters(const Plan& plan,
                              const Graph& graph,
                              const RankPlace& place,
                              Program& program) {
  return ParameterLister(plan, graph, place, program).list();
}

Box local_box(const Box& box, const Box& shard) {
  Box local = box;
  for (std::size_t d = 0; d < box.begin.size(); ++d) {
    local.begin[d] -= shard.begin[d];
    local.end[d] -= shard.begin[d];
  }
  return local;
}

}  // namespace shardwise::internal
