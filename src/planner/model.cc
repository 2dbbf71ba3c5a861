#include "planner/model.h"

#include <algorithm>

#include "core/errors.h"
#include "cost/stage_prices.h"
#include "graph/layer_body.h"
#include "graph/redistribution.h"
#include "graph/tied.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

template <typename Value>
std::vector<Value> allowed_of(const std::vector<Value>& allowed, std::vector<Value> all) {
  std::erase_if(all, [&](Value value) {
    return !allowed.empty() && std::find(allowed.begin(), allowed.end(), value) == allowed.end();
  });
  return all;
}

}  // namespace

StagePlaces::StagePlaces(const Cluster& cluster)
    : num_devices_(cluster.num_devices()), devices_(devices_by_type(cluster)) {
  // A state's number: digits of used devices by type, the first type's runs fastest.
  int num_states = 1;
  std::vector<int> strides;
  for (const std::vector<int>& devices : devices_) {
    strides.push_back(num_states);
    num_states *= static_cast<int>(devices.size()) + 1;
  }
  steps_.resize(at(num_states));
  for (int state = 0; state < num_states; ++state) {
    int total = 0;
    for (int type = 0; type < static_cast<int>(devices_.size()); ++type) {
      const std::vector<int>& devices = devices_[at(type)];
      const int count = static_cast<int>(devices.size());
      const int used = state / strides[at(type)] % (count + 1);
      total += used;
      for (int size = 1; size <= count - used; ++size) {
        for (const int start : places_for(cluster, devices, used, size)) {
          steps_[at(state)].push_back(
              {{type, start, size}, state + (count - start - used) * strides[at(type)]});
        }
      }
    }
    num_used_.push_back(total);
  }
}

MicrobatchModel::MicrobatchModel(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs,
                                 const StagePlaces& places,
                                 const Deadline& deadline,
                                 int num_microbatches)
    : request_(request),
      cluster_(cluster),
      costs_(costs),
      places_(places),
      deadline_(deadline),
      num_microbatches_(num_microbatches),
      graph_(request.graph(request.batch / num_microbatches)) {
  SHARDWISE_CHECK(
      graph_.microbatch == request.batch / num_microbatches && graph_.sequence == request.sequence,
      "the graph is built for the micro-batch it was asked for");
  const int last = num_layers() - 1;
  if (graph_.tied.size() > 1 || (is_tied() && (graph_.tied[0].owner_layer != 0 ||
                                               graph_.tied[0].alias_layer != last || last == 0))) {
    throw InputError("model " + graph_.model_type,
                     "expected at most one tied parameter, of the first and the last layer");
  }
}

std::vector<int> MicrobatchModel::devices_at(const StagePlace& place) const {
  const auto begin = places_.devices()[at(place.type)].begin() + place.start;
  return {begin, begin + place.size};
}

const std::vector<int>& MicrobatchModel::shapes_at(const StagePlace& place) {
  const auto [entry, is_new] = shapes_at_.try_emplace(place);
  if (!is_new) {
    return entry->second;
  }
  const std::vector<int> devices = devices_at(place);
  for (const Mesh& mesh : meshes_of(graph_, place.size, request_.free_axes, request_.limits)) {
    StageShape shape = shape_of(cluster_, devices, mesh);
    if (mesh.sizes[1] < mesh.sizes[2] && !order_matters(shape)) {
      continue;  // the same as with both axes renamed
    }
    const auto [number, is_new_shape] =
        shape_numbers_.try_emplace(shape, static_cast<int>(shapes_.size()));
    if (is_new_shape) {
      shapes_.push_back(std::make_unique<StageShape>(std::move(shape)));
    }
    entry->second.push_back(number->second);
  }
  return entry->second;
}

TiedPlace MicrobatchModel::tied_place(int layer) const {
  if (!is_tied() || (layer != 0 && layer != num_layers() - 1)) {
    return {};
  }
  const ParameterPlace place =
      layer == 0 ? owner_of(graph_, graph_.tied[0]) : alias_of(graph_, graph_.tied[0]);
  return {place.op, place.index};
}

const BlockCosts& MicrobatchModel::block_costs(int shape_number, int block) {
  std::unique_ptr<BlockCosts>& known = block_costs_[{shape_number, block}];
  if (known == nullptr) {
    deadline_.check();
    const int last = num_layers() - 1;
    const TiedPlace tied = tied_place(block == block_of(0)      ? 0
                                      : block == block_of(last) ? last
                                                                : 1);
    known = std::make_unique<BlockCosts>(graph_.blocks[at(block)],
                                         shape(shape_number),
                                         request_.precision,
                                         costs_,
                                         request_.limits,
                                         last == 0 ? TiedPlace{} : tied);
  }
  return *known;
}

std::int64_t MicrobatchModel::device_memory(int shape_number) const {
  return cluster_.types[at(shape(shape_number).device_type)].memory.count;
}

std::int64_t MicrobatchModel::memory_limit(int shape_number) const {
  const DeviceType& type = cluster_.types[at(shape(shape_number).device_type)];
  return type.memory.count - type.reserve.count - costs_.process_memory().count;
}

std::vector<Mode> MicrobatchModel::modes(int layer, TieCase tie, bool ignores_memory) const {
  std::vector<Recompute> recomputes = allowed_of(
      request_.limits.recomputes, {Recompute::kNone, Recompute::kSelective, Recompute::kFull});
  if (ignores_memory && !recomputes.empty() && recomputes.front() == Recompute::kNone) {
    recomputes.resize(1);
  }
  TieRole role = TieRole::kNone;
  if (layer == 0 && tie == TieCase::kExchanged) {
    role = TieRole::kExchangedOwner;
  } else if (layer == num_layers() - 1 && tie != TieCase::kNone) {
    role = tie == TieCase::kShared ? TieRole::kSharedAlias : TieRole::kExchangedAlias;
  }
  std::vector<Mode> modes;
  for (const Recompute recompute : recomputes) {
    for (const StateSharding sharding : allowed_of(request_.limits.state_shardings,
                                                   {StateSharding::kNone,
                                                    StateSharding::kOptimizer,
                                                    StateSharding::kGradients,
                                                    StateSharding::kParameters})) {
      modes.push_back({sharding, recompute, role});
    }
  }
  return modes;
}

std::pair<StagePlace, StagePlace> MicrobatchModel::names_of(const StagePlace& a,
                                                            const StagePlace& b) const {
  const bool is_flat =
      cluster_.levels.empty() ||
      (cluster_.levels.size() == 1 && cluster_.num_devices() <= cluster_.levels[0].size);
  if (!is_flat || a == b) {
    return {a, b};
  }
  return {{a.type, 0, a.size}, {b.type, -1, b.size}};
}

std::int64_t MicrobatchModel::messages_time(const std::vector<std::int64_t>& shape,
                                            std::int64_t element,
                                            const TensorPlacement& from,
                                            const TensorPlacement& to) const {
  return internal::price_messages(
             redistribution(shape, from, to), from.devices, element, cluster_, costs_)
      .time.count;
}

const MicrobatchModel::Transfer& MicrobatchModel::transfer(const StagePlace& sender,
                                                           int sender_shape,
                                                           const Layout& output,
                                                           const StagePlace& receiver,
                                                           int receiver_shape,
                                                           const Layout& input) {
  const Mesh& from_mesh = shape(sender_shape).mesh;
  const Mesh& to_mesh = shape(receiver_shape).mesh;
  const auto [from, to] = names_of(sender, receiver);
  const auto [entry, is_new] =
      transfers_.try_emplace({from, from_mesh, output, to, to_mesh, input});
  if (is_new) {
    // Every boundary carries the same hidden state.
    const Block& block = graph_.block_of(0);
    const Tensor& tensor = block.tensors[at(block.outputs[0])];
    const std::int64_t element = element_bytes(tensor.type, request_.precision);
    const TensorPlacement a{output, from_mesh, devices_at(sender)};
    const TensorPlacement b{input, to_mesh, devices_at(receiver)};
    entry->second = {messages_time(tensor.shape, element, a, b),
                     messages_time(tensor.shape, element, b, a)};
  }
  return entry->second;
}

TensorPlacement MicrobatchModel::placement_of_tied(const StagePlace& place,
                                                   int shape_number,
                                                   int layer,
                                                   const Option& option) {
  const TiedPlace tied = tied_place(layer);
  const Op& op = graph_.block_of(layer).ops[at(tied.op)];
  const BlockCosts& costs = block_costs(shape_number, block_of(layer));
  const Mesh& mesh = shape(shape_number).mesh;
  const AxisAssignment& assignment = costs.choices(tied.op)[option.choices[at(tied.op)]];
  return {
      input_layout(op, op.parameters[at(tied.index)], assignment, mesh), mesh, devices_at(place)};
}

std::int64_t MicrobatchModel::tie_exchange(const StagePlace& owner,
                                           int owner_shape,
                                           const Option& owner_option,
                                           const StagePlace& alias,
                                           int alias_shape,
                                           const Option& alias_option) {
  const int last = num_layers() - 1;
  const TensorPlacement at_owner = placement_of_tied(owner, owner_shape, 0, owner_option);
  const TensorPlacement at_alias = placement_of_tied(alias, alias_shape, last, alias_option);
  const auto [from, to] = names_of(owner, alias);
  const auto [entry, is_new] = exchanges_.try_emplace(
      {from, at_owner.mesh, at_owner.layout, to, at_alias.mesh, at_alias.layout});
  if (is_new) {
    const Block& block = graph_.block_of(0);
    const std::vector<std::int64_t>& shape_of_tensor =
        block.tensors[at(graph_.tied[0].owner_tensor)].shape;
    entry->second = messages_time(shape_of_tensor,
                                  element_bytes(ElementType::kCompute, request_.precision),
                                  at_owner,
                                  at_alias) +
                    messages_time(shape_of_tensor,
                                  element_bytes(ElementType::kFloat32, request_.precision),
                                  at_alias,
                                  at_owner);
  }
  return entry->second;
}

std::int64_t MicrobatchModel::step_overhead(int ranks) {
  const auto [entry, is_new] = overheads_.try_emplace(ranks, 0);
  if (is_new) {
    entry->second = to_picoseconds(costs_.step_overhead(ranks).time).count;
  }
  return entry->second;
}

}  // namespace shardwise::planning
