#include "runtime/parameter_state.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/errors.h"
#include "runtime/initial_values.h"
#include "runtime/kernel_parts.h"

namespace shardwise {
namespace {

bool is_sharded(StateSharding sharding, StateSharding at_least) { return sharding >= at_least; }

// Gathers the members' shares into the flat tensors.
void gather_shares(const std::vector<at::Tensor>& shares,
                   const std::vector<at::Tensor>& flats,
                   CommunicationGroup& group) {
  std::vector<CollectivePart> parts;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    parts.push_back({shares[i].const_data_ptr(), flats[i].mutable_data_ptr(), shares[i].numel()});
  }
  group.all_gather(parts, wire_type(shares.front()));
}

// Sums this member's block of every flat tensor over the members, in place.
void reduce_own_blocks(const std::vector<at::Tensor>& flats,
                       const std::vector<at::Tensor>& blocks,
                       CommunicationGroup& group) {
  std::vector<CollectivePart> parts;
  for (std::size_t i = 0; i < flats.size(); ++i) {
    parts.push_back({flats[i].const_data_ptr(), blocks[i].mutable_data_ptr(), blocks[i].numel()});
  }
  group.reduce_scatter(parts, WireType::kFloat32);
}

void clear_padding(const ParameterState& state) {
  const std::int64_t elements = state.local->elements;
  state.gradient_flat.narrow(0, elements, state.padded() - elements).zero_();
}

}  // namespace

std::int64_t ParameterState::share_begin() const {
  return sharding == StateSharding::kNone ? 0 : local->index_in_group * local->chunk;
}

std::int64_t ParameterState::share_size() const {
  return sharding == StateSharding::kNone ? padded() : local->chunk;
}

ParameterStore::ParameterStore(const Program& program, const Graph& graph, std::uint64_t seed)
    : compute_type_(program.precision == Precision::kBFloat16 ? at::kBFloat16 : at::kFloat) {
  for (const LocalParameter& local : program.parameters) {
    ParameterState state;
    state.local = &local;
    state.sharding = local.reduction_degree > 1 ? local.state_sharding : StateSharding::kNone;
    states_.push_back(std::move(state));
  }
  allocate_gradients(program);
  for (int p = 0; p < static_cast<int>(states_.size()); ++p) {
    allocate(p);
    const LocalParameter& local = *state(p).local;
    const Block& block = graph.block_of(local.layer);
    const Op& op = block.ops[static_cast<std::size_t>(local.op)];
    const TensorIndex index = op.parameters[static_cast<std::size_t>(local.index)].tensor;
    const Tensor* tensor = &block.tensors[static_cast<std::size_t>(index)];
    std::string name = local.name;
    if (const TiedParameter* tied = tied_as_alias(graph, {local.layer, local.op, local.index});
        tied != nullptr) {
      tensor =
          &graph.block_of(tied->owner_layer).tensors[static_cast<std::size_t>(tied->owner_tensor)];
      name = graph.layers[static_cast<std::size_t>(tied->owner_layer)].prefix + tensor->name;
    }
    const at::Tensor values = at::empty(local.shape, at::kFloat);
    fill_initial_values({seed, name, tensor->initializer, tensor->stddev, local.global_shape},
                        local.box,
                        local.shape,
                        values.mutable_data_ptr<float>());
    set_values(p, values);
  }
}

void ParameterStore::allocate(int parameter) {
  ParameterState& state = this->state(parameter);
  if (state.sharding == StateSharding::kParameters) {
    state.weight_share = at::empty({state.local->chunk}, compute_type_);
  } else {
    state.weight_flat = at::zeros({state.padded()}, compute_type_);
    state.weight = state.weight_flat.narrow(0, 0, state.local->elements).view(state.local->shape);
    state.weight_share = state.weight_flat.narrow(0, state.share_begin(), state.share_size());
  }
  if (!state.local->has_optimizer_state()) {
    return;
  }
  state.master = compute_type_ == at::kFloat ? state.weight_share
                                             : at::empty({state.share_size()}, at::kFloat);
  state.first_moment = at::zeros({state.share_size()}, at::kFloat);
  state.second_moment = at::zeros({state.share_size()}, at::kFloat);
}

void ParameterStore::allocate_gradients(const Program& program) {
  std::vector<bool> is_placed(states_.size(), false);
  const auto place = [&](const std::vector<int>& parameters) {
    std::int64_t size = 0;
    for (const int p : parameters) {
      size += state(p).padded();
    }
    gradient_storage_.push_back(at::zeros({size}, at::kFloat));
    std::int64_t offset = 0;
    for (const int p : parameters) {
      ParameterState& of = state(p);
      of.gradient_flat = gradient_storage_.back().narrow(0, offset, of.padded());
      of.gradient = of.gradient_flat.narrow(0, 0, of.local->elements).view(of.local->shape);
      if (of.sharding == StateSharding::kNone) {
        of.gradient_share = of.gradient_flat;
      }
      offset += of.padded();
      is_placed[static_cast<std::size_t>(p)] = true;
    }
  };
  for (const Instruction& instruction : program.instructions) {
    if (instruction.kind != InstructionKind::kReduceGradients) {
      continue;
    }
    for (const Bucket& bucket : buckets_of(instruction.parameters)) {
      if (!is_sharded(bucket.sharding, StateSharding::kGradients) &&
          !is_placed[static_cast<std::size_t>(bucket.parameters.front())]) {
        place(bucket.parameters);
      }
    }
  }
  for (int p = 0; p < static_cast<int>(states_.size()); ++p) {
    if (shares_gradients(p)) {
      state(p).gradient_share = at::zeros({state(p).local->chunk}, at::kFloat);
    } else if (!is_placed[static_cast<std::size_t>(p)]) {
      place({p});
    }
  }
}

bool ParameterStore::shares_gradients(int parameter) const {
  return is_sharded(states_[static_cast<std::size_t>(parameter)].sharding,
                    StateSharding::kGradients);
}

ParameterStore::GradientMode ParameterStore::open_gradients(const std::vector<int>& parameters) {
  const bool adds = std::any_of(
      parameters.begin(), parameters.end(), [&](int p) { return state(p).has_gradient; });
  for (const int p : parameters) {
    ParameterState& state = this->state(p);
    if (!state.gradient.defined()) {
      state.gradient_flat = at::empty({state.padded()}, at::kFloat);
      state.gradient =
          state.gradient_flat.narrow(0, 0, state.local->elements).view(state.local->shape);
      clear_padding(state);
    }
    if (adds && !state.has_gradient) {
      state.gradient.zero_();
    }
    state.has_gradient = true;
  }
  return adds ? GradientMode::kAdd : GradientMode::kOverwrite;
}

std::vector<ParameterStore::Bucket> ParameterStore::buckets_of(
    const std::vector<int>& parameters) const {
  std::map<std::pair<int, StateSharding>, Bucket> buckets;
  for (const int p : parameters) {
    const ParameterState& state = states_[static_cast<std::size_t>(p)];
    const LocalParameter& local = *state.local;
    Bucket& bucket = buckets[{local.group, state.sharding}];
    bucket.parameters.push_back(p);
    bucket.group = local.group;
    bucket.members = local.reduction_degree;
    bucket.index = local.index_in_group;
    bucket.sharding = state.sharding;
    bucket.share += local.chunk;
  }
  std::vector<Bucket> list;
  list.reserve(buckets.size());
  for (auto& [key, bucket] : buckets) {
    list.push_back(std::move(bucket));
  }
  return list;
}

std::function<void()> ParameterStore::start_reduction(const Bucket& bucket,
                                                      CommunicationGroup& group) {
  std::vector<at::Tensor> flats;
  std::vector<at::Tensor> blocks;  // this member's of each: takes the sum
  std::vector<at::Tensor> shares;
  for (const int p : bucket.parameters) {
    ParameterState& state = this->state(p);
    SHARDWISE_CHECK(state.gradient_flat.defined(), state.local->name + ": no gradient to reduce");
    flats.push_back(state.gradient_flat);
    const std::int64_t chunk = state.local->chunk;
    blocks.push_back(state.gradient_flat.narrow(0, state.local->index_in_group * chunk, chunk));
    shares.push_back(state.gradient_share);
  }

  if (bucket.sharding == StateSharding::kNone) {
    // The flats lie one after the other in one storage: allocate_gradients.
    const std::int64_t total = bucket.members * bucket.share;
    float* data = flats.front().mutable_data_ptr<float>();
    SHARDWISE_CHECK(flats.back().mutable_data_ptr<float>() + flats.back().numel() == data + total,
                    "gradients of one bucket lie apart");
    return [flats, data, total, &group] { group.all_reduce(data, total, WireType::kFloat32); };
  }

  if (bucket.sharding == StateSharding::kOptimizer) {
    // The whole gradients are used up by the reduction: their own blocks are the result.
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      state(bucket.parameters[i]).gradient_share = blocks[i];
    }
    return [flats, blocks, &group] { reduce_own_blocks(flats, blocks, group); };
  }

  for (const int p : bucket.parameters) {
    state(p).gradient = at::Tensor();
    state(p).gradient_flat = at::Tensor();
    state(p).has_gradient = false;
  }
  return [flats = std::move(flats), blocks = std::move(blocks), shares, &group] {
    reduce_own_blocks(flats, blocks, group);
    for (std::size_t i = 0; i < shares.size(); ++i) {
      shares[i].add_(blocks[i]);
    }
  };
}

void ParameterStore::gather_weights(const Bucket& bucket, CommunicationGroup& group) {
  std::vector<at::Tensor> shares;
  std::vector<at::Tensor> flats;
  for (const int p : bucket.parameters) {
    ParameterState& state = this->state(p);
    state.weight_flat = at::empty({state.padded()}, compute_type_);
    state.weight = state.weight_flat.narrow(0, 0, state.local->elements).view(state.local->shape);
    shares.push_back(state.weight_share);
    flats.push_back(state.weight_flat);
  }
  gather_shares(shares, flats, group);
}

void ParameterStore::release_weights(int parameter) {
  state(parameter).weight = at::Tensor();
  state(parameter).weight_flat = at::Tensor();
}

void ParameterStore::gather_updated(const Bucket& bucket, CommunicationGroup& group) {
  std::vector<at::Tensor> shares;
  std::vector<at::Tensor> flats;
  for (const int p : bucket.parameters) {
    shares.push_back(state(p).weight_share);
    flats.push_back(state(p).weight_flat);
  }
  gather_shares(shares, flats, group);
}

void ParameterStore::store_update(int parameter) {
  if (compute_type_ != at::kFloat) {
    state(parameter).weight_share.copy_(state(parameter).master);
  }
}

void ParameterStore::clear_gradients() {
  for (int p = 0; p < static_cast<int>(states_.size()); ++p) {
    if (shares_gradients(p)) {
      state(p).gradient_share.zero_();
    } else {
      state(p).has_gradient = false;
      clear_padding(state(p));  // the reduction may have put its result there
    }
  }
}

void ParameterStore::set_values(int parameter, const at::Tensor& values) {
  ParameterState& state = this->state(parameter);
  SHARDWISE_CHECK(values.numel() == state.local->elements, state.local->name + ": wrong size");
  const at::Tensor flat = at::zeros({state.padded()}, at::kFloat);
  flat.narrow(0, 0, values.numel()).copy_(values.reshape({-1}));
  if (state.weight_flat.defined()) {
    state.weight_flat.copy_(flat);
  }
  const at::Tensor share = flat.narrow(0, state.share_begin(), state.share_size());
  state.weight_share.copy_(share);
  if (state.master.defined()) {
    state.master.copy_(share);
  }
}

}  // namespace shardwise
