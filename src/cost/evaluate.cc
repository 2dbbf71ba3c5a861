// How evaluate() works: prices of layers (layer_price.cc) and of messages (transfer_price.cc) are
// looked up or made, added up by stage, and combined by the schedule's formula. Letters as in
// docs/cost_model.md: P stages, m micro-batches, v chunks, p_i, o_i, s_i of stage i, period pi.
#include "cost/evaluate.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "core/errors.h"
#include "cost/evaluator.h"
#include "cost/stage_prices.h"
#include "graph/tied.h"

namespace shardwise {

namespace {

using internal::LayerPrice;
using internal::ParameterRole;
using internal::Surroundings;
using internal::TieRole;
using internal::TransferPrice;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Text keys of the memory of prices: looked up only, never walked through.
void append(std::string& key, std::int64_t number) {
  key.append(std::to_string(number));
  key.push_back(',');
}
void append(std::string& key, const Layout& layout) {
  for (const AxisLayout& axis : layout) {
    key.push_back(static_cast<char>(axis.kind));
    key.push_back(static_cast<char>(axis.dim));
  }
}
void append(std::string& key, const TensorPlacement& placement) {
  append(key, placement.layout);
  for (const int size : placement.mesh.sizes) {
    append(key, size);
  }
  // Devices as runs: the first one of each and how many follow each other.
  const std::vector<int>& devices = placement.devices;
  for (std::size_t begin = 0, end = 0; begin < devices.size(); begin = end) {
    for (end = begin + 1; end < devices.size() && devices[end] == devices[end - 1] + 1;) {
      ++end;
    }
    append(key, devices[begin]);
    append(key, static_cast<std::int64_t>(end - begin));
  }
  key.push_back(';');
}

// ceil(a / b) of times.
Picoseconds divide_up(Picoseconds a, std::int64_t b) { return Picoseconds((a.count + b - 1) / b); }

// A boundary between two chunks that follow each other in the model.
struct BoundaryPrice {
  TransferPrice forward;
  TransferPrice backward;
};

Picoseconds largest(const std::vector<StageTime>& stages, Picoseconds (*value)(const StageTime&)) {
  Picoseconds most{0};
  for (const StageTime& stage : stages) {
    most = std::max(most, value(stage));
  }
  return most;
}

Picoseconds period_of(Schedule schedule, const std::vector<StageTime>& stages) {
  using S = const StageTime&;
  switch (schedule) {
    case Schedule::k1F1B:
    case Schedule::kInterleaved:
    case Schedule::kZeroBubble1P:
    case Schedule::kZeroBubble2P:
      return largest(stages, [](S s) { return s.microbatch() + s.transfer; });
    case Schedule::k1F1BEager:
      return largest(stages, [](S s) { return std::max(s.microbatch(), s.transfer); });
    case Schedule::kGpipe:
      return largest(stages, [](S s) { return std::max(s.forward_total, s.transfer_forward); }) +
             largest(stages, [](S s) {
               return std::max(s.microbatch() - s.forward_total, s.transfer - s.transfer_forward);
             });
    default:
      break;
  }
  SHARDWISE_CHECK(false, "unknown schedule");
}

// Share of the 1F1B bubble that is left where weight gradients fill it (Qi et al., ICLR'24, table
// 1: F = B = W leaves (P - 1)(F + B - W) of (P - 1)(F + B + W), or nothing).
std::optional<double> bubble_share(Schedule schedule) {
  switch (schedule) {
    case Schedule::kZeroBubble1P:
      return 1.0 / 3;
    case Schedule::kZeroBubble2P:
      return 0.0;
    default:
      return std::nullopt;
  }
}

// Communication of state behind the kernels of the last micro-batches' backward, chunk by chunk,
// and messages behind those of their micro-batch, where the software does that.
void hide_communication(const Plan& plan, const Execution& execution, StageTime& time) {
  if (execution.state == StateOverlap::kCompute) {
    const std::int64_t chunks = plan.num_chunks();
    const std::int64_t last = std::min(plan.num_stages(), plan.num_microbatches);
    const Picoseconds window = divide_up(
        (1 + last * (chunks - 1)) * (time.forward + time.recompute + time.backward), chunks);
    time.exposed_reduction =
        internal::shown(time.exposed_reduction + time.parameter_gather, window, execution.exposed);
    time.parameter_gather = Picoseconds(0);
  }
  if (execution.overlaps_pipeline) {
    const Picoseconds kernels = time.forward + time.recompute + time.backward;
    const Picoseconds shown = internal::shown(time.transfer, kernels, execution.exposed);
    time.transfer_forward = divide_up(shown, 2);
    time.transfer = shown;
  }
}

void combine(const Plan& plan, Evaluation& evaluation) {
  const std::vector<StageTime>& stages = evaluation.stage_times;
  evaluation.period = period_of(plan.schedule, stages);
  evaluation.fill = Picoseconds(0);
  if (plan.schedule == Schedule::kInterleaved) {
    evaluation.fill = evaluation.period +
                      divide_up((plan.num_stages() - 1) * evaluation.period, plan.num_chunks());
  } else {
    for (const StageTime& stage : stages) {
      evaluation.fill += stage.microbatch() + stage.transfer;
    }
    if (const std::optional<double> share = bubble_share(plan.schedule)) {
      const Picoseconds others = evaluation.fill - evaluation.period;
      evaluation.fill =
          evaluation.period +
          Picoseconds(static_cast<std::int64_t>(*share * static_cast<double>(others.count)));
    }
  }
  evaluation.steady = (plan.num_microbatches - 1) * evaluation.period;
  evaluation.per_step = largest(stages, [](const StageTime& s) { return s.per_step(); });
  evaluation.step_time =
      evaluation.fill + evaluation.steady + evaluation.per_step + evaluation.overhead;
}

}  // namespace

Picoseconds StageTime::microbatch() const {
  return forward + recompute + backward + collectives + state_collectives;
}

Picoseconds StageTime::per_step() const {
  return exposed_reduction + optimizer + parameter_gather + tied_exchange;
}

Bytes StageMemory::total() const {
  return weights + gradients + optimizer + activations + transient + boundary_buffers + reserve;
}

bool Evaluation::fits() const {
  return std::all_of(stage_memory.begin(), stage_memory.end(), [](const StageMemory& memory) {
    return memory.fits();
  });
}

struct Evaluator::State {
  const Graph& graph;
  const Cluster& cluster;
  const CostTable& costs;
  std::map<std::pair<Mesh, std::vector<int>>, int> stages;  // -> index into surroundings
  std::map<Surroundings, int> known_surroundings;
  std::vector<Surroundings> surroundings;
  std::unordered_map<std::string, LayerPrice> layers;
  std::unordered_map<std::string, BoundaryPrice> boundaries;
  std::unordered_map<std::string, BoundaryPrice> ties;  // forward: values, backward: gradients

  Evaluation evaluate(const Plan& plan);

 private:
  int surroundings_index(const StagePlan& stage);
  std::vector<ParameterRole> roles_in(const Plan& plan, int layer) const;
  const LayerPrice& layer_price(const Plan& plan, const LayerPlace& place, int layer, int around);
  const BoundaryPrice& boundary_price(const Plan& plan, int from_stage, int to_stage, int chunk);
  const BoundaryPrice& tie_price(const Plan& plan, const TiedParameter& tied);
  void add_stage(const Plan& plan, int stage, Evaluation& evaluation);
  void add_layer_time(const LayerPrice& layer,
                      int microbatches,
                      StageTime& time,
                      StageTraffic& traffic);
  void add_boundaries(const Plan& plan, Evaluation& evaluation);
  void add_ties(const Plan& plan, Evaluation& evaluation);
};

int Evaluator::State::surroundings_index(const StagePlan& stage) {
  const auto [entry, is_new] = stages.try_emplace({stage.mesh, stage.devices}, 0);
  if (is_new) {
    Surroundings around = internal::surroundings_of(cluster, stage);
    const auto [known, is_unknown] =
        known_surroundings.try_emplace(around, static_cast<int>(surroundings.size()));
    if (is_unknown) {
      surroundings.push_back(std::move(around));
    }
    entry->second = known->second;
  }
  return entry->second;
}

std::vector<ParameterRole> Evaluator::State::roles_in(const Plan& plan, int layer) const {
  std::vector<ParameterRole> roles;
  for (const TiedParameter& tied : graph.tied) {
    if (tied.owner_layer != layer && tied.alias_layer != layer) {
      continue;
    }
    const bool shared = tied_mode(graph, plan, tied) == TiedMode::kShared;
    const ParameterPlace owner = owner_of(graph, tied);
    const ParameterPlace alias = alias_of(graph, tied);
    if (owner.layer == layer && !shared) {
      roles.push_back({owner.op, owner.index, TieRole::kExchangedOwner});
    }
    if (alias.layer == layer) {
      roles.push_back(
          {alias.op, alias.index, shared ? TieRole::kSharedAlias : TieRole::kExchangedAlias});
    }
  }
  return roles;
}

const LayerPrice& Evaluator::State::layer_price(const Plan& plan,
                                                const LayerPlace& place,
                                                int layer,
                                                int around) {
  const ChunkPlan& chunk = plan.stages[at(place.stage)].chunks[at(place.chunk)];
  const LayerPlan& layer_plan = chunk.layers[at(place.index)];
  const bool ends_chunk = place.index + 1 == static_cast<int>(chunk.layers.size());
  const Layout& out =
      ends_chunk ? chunk.output_layout : chunk.layers[at(place.index + 1)].input_layout;
  const int block = graph.layers[at(layer)].block;
  const std::vector<ParameterRole> roles = roles_in(plan, layer);
  std::string key;
  append(key, block);
  append(key, around);
  append(key, layer_plan.input_layout);
  append(key, out);
  key.push_back(static_cast<char>(plan.precision));
  key.push_back(static_cast<char>(layer_plan.state_sharding));
  key.push_back(static_cast<char>(layer_plan.recompute));
  for (const AxisAssignment& assignment : layer_plan.op_axes) {
    for (const std::int8_t axis : assignment) {
      key.push_back(static_cast<char>(axis));
    }
  }
  for (const ParameterRole& role : roles) {
    append(key, role.op);
    append(key, role.index);
    key.push_back(static_cast<char>(role.role));
  }
  const auto found = layers.find(key);
  if (found != layers.end()) {
    return found->second;
  }
  return layers
      .emplace(std::move(key),
               internal::price_layer(graph.blocks[at(block)],
                                     layer_plan,
                                     out,
                                     plan.precision,
                                     surroundings[at(around)],
                                     roles,
                                     costs))
      .first->second;
}

const BoundaryPrice& Evaluator::State::boundary_price(const Plan& plan,
                                                      int from_stage,
                                                      int to_stage,
                                                      int chunk) {
  const StagePlan& sender_stage = plan.stages[at(from_stage)];
  const StagePlan& receiver_stage = plan.stages[at(to_stage)];
  const ChunkPlan& sends = sender_stage.chunks[at(chunk)];
  const ChunkPlan& receives = receiver_stage.chunks[at(to_stage > from_stage ? chunk : chunk + 1)];
  const Block& block = graph.block_of(sends.end_layer() - 1);
  SHARDWISE_CHECK(block.outputs.size() == 1, "a boundary carries one tensor");
  const Tensor& tensor = block.tensors[at(block.outputs[0])];
  const TensorPlacement sender{sends.output_layout, sender_stage.mesh, sender_stage.devices};
  const TensorPlacement receiver{
      receives.layers.front().input_layout, receiver_stage.mesh, receiver_stage.devices};
  std::string key;
  for (const std::int64_t size : tensor.shape) {
    append(key, size);
  }
  key.push_back(static_cast<char>(plan.precision));
  append(key, sender);
  append(key, receiver);
  const auto found = boundaries.find(key);
  if (found != boundaries.end()) {
    return found->second;
  }
  const std::int64_t element = element_bytes(tensor.type, plan.precision);
  BoundaryPrice price;
  price.forward = internal::price_transfer(tensor.shape, sender, receiver, element, cluster, costs);
  price.backward =
      internal::price_transfer(tensor.shape, receiver, sender, element, cluster, costs);
  return boundaries.emplace(std::move(key), std::move(price)).first->second;
}

const BoundaryPrice& Evaluator::State::tie_price(const Plan& plan, const TiedParameter& tied) {
  const TensorPlacement owner = parameter_devices(graph, plan, owner_of(graph, tied));
  const TensorPlacement alias = parameter_devices(graph, plan, alias_of(graph, tied));
  std::string key;
  append(key, tied.owner_layer);
  append(key, tied.owner_tensor);
  append(key, tied.alias_layer);
  append(key, tied.alias_tensor);
  key.push_back(static_cast<char>(plan.precision));
  append(key, owner);
  append(key, alias);
  const auto found = ties.find(key);
  if (found != ties.end()) {
    return found->second;
  }
  const TiedMessages messages = tied_messages(graph, plan, tied);
  BoundaryPrice price;
  price.forward = internal::price_messages(messages.parameters,
                                           owner.devices,
                                           element_bytes(ElementType::kCompute, plan.precision),
                                           cluster,
                                           costs);
  price.backward = internal::price_messages(messages.gradients,
                                            alias.devices,
                                            element_bytes(ElementType::kFloat32, plan.precision),
                                            cluster,
                                            costs);
  return ties.emplace(std::move(key), std::move(price)).first->second;
}

void Evaluator::State::add_layer_time(const LayerPrice& layer,
                                      int microbatches,
                                      StageTime& time,
                                      StageTraffic& traffic) {
  time.forward += layer.forward;
  time.recompute += layer.recompute;
  time.backward += layer.backward;
  time.collectives += layer.forward_collectives + layer.backward_collectives;
  time.state_collectives += layer.forward_gather + layer.backward_state;
  time.forward_total += layer.forward + layer.forward_collectives + layer.forward_gather;
  time.exposed_reduction += layer.exposed_reduction;
  time.optimizer += layer.optimizer;
  time.parameter_gather += layer.parameter_gather;
  for (std::size_t kind = 0; kind < traffic.by_collective.size(); ++kind) {
    traffic.by_collective[kind] +=
        microbatches * layer.microbatch_payload[kind] + layer.step_payload[kind];
  }
  traffic.routed += microbatches * layer.routed_payload;
}

void Evaluator::State::add_stage(const Plan& plan, int stage, Evaluation& evaluation) {
  const StagePlan& stage_plan = plan.stages[at(stage)];
  const int around = surroundings_index(stage_plan);
  StageTime& time = evaluation.stage_times[at(stage)];
  StageMemory& memory = evaluation.stage_memory[at(stage)];
  StageTraffic& traffic = evaluation.traffic[at(stage)];
  traffic.by_collective.assign(internal::kNumCollectiveKinds, 0);
  traffic.sends.assign(stage_plan.devices.size(), 0);
  std::vector<Bytes> activations;  // by chunk
  for (int c = 0; c < static_cast<int>(stage_plan.chunks.size()); ++c) {
    const ChunkPlan& chunk = stage_plan.chunks[at(c)];
    const LayerPrice* before = nullptr;
    Bytes& kept = activations.emplace_back();
    Bytes received{0};
    std::vector<internal::LayerMemory> chunk_layers;
    for (int k = 0; k < static_cast<int>(chunk.layers.size()); ++k) {
      const LayerPrice& layer = layer_price(plan, {stage, c, k}, chunk.first_layer + k, around);
      evaluation.extrapolated |= layer.extrapolated;
      add_layer_time(layer, plan.num_microbatches, time, traffic);
      memory.weights += layer.weights;
      memory.gradients += layer.gradients;
      memory.optimizer += layer.optimizer_state;
      kept += layer.saved;
      if (before != nullptr && before->saves_output && layer.saves_input) {
        kept -= layer.input;
      }
      chunk_layers.push_back(
          {graph.layers[at(chunk.first_layer + k)].block, kept, layer.transient});
      received = before == nullptr ? layer.input : received;
      before = &layer;
    }
    memory.transient =
        std::max(memory.transient, internal::chunk_transient(chunk_layers, plan.num_chunks() == 1));
    // What is on its way while the stage computes on: the input of the next micro-batch and the
    // gradient sent back for the last one, and the same at the other end.
    const bool is_first = stage == 0 && c == 0;
    const bool is_last = stage + 1 == plan.num_stages() && c + 1 == plan.num_chunks();
    const Bytes at_ends = (is_first ? Bytes(0) : received) + (is_last ? Bytes(0) : before->output);
    memory.boundary_buffers = std::max(memory.boundary_buffers, 2 * at_ends);
  }
  memory.in_flight = microbatches_in_flight(
      plan.schedule, plan.num_stages(), stage, plan.num_microbatches, plan.num_chunks());
  for (const Bytes kept : activations) {
    memory.activations_per_microbatch += kept;
  }
  memory.activations = memory.in_flight * memory.activations_per_microbatch;
  if (plan.schedule == Schedule::kInterleaved) {
    // Parts of micro-batches, and of unequal chunks more often the early ones.
    memory.activations = internal::interleaved_activations(
        plan.num_stages(), stage, plan.num_microbatches, activations);
  }
  bool first = true;
  for (const int type : surroundings[at(around)].device_types) {
    const DeviceType& device = cluster.types[at(type)];
    const Bytes reserve = device.reserve + costs.process_memory();
    if (first || device.memory - reserve < memory.limit - memory.reserve) {
      memory.limit = device.memory;
      memory.reserve = reserve;
    }
    first = false;
  }
}

void Evaluator::State::add_boundaries(const Plan& plan, Evaluation& evaluation) {
  for (int c = 0; c < plan.num_chunks(); ++c) {
    for (int s = 0; s < plan.num_stages(); ++s) {
      const bool wraps = s + 1 == plan.num_stages();
      if (wraps && c + 1 == plan.num_chunks()) {
        continue;  // the loss
      }
      const int next = wraps ? 0 : s + 1;
      const BoundaryPrice& price = boundary_price(plan, s, next, c);
      StageTime& time = evaluation.stage_times[at(s)];
      time.transfer += price.forward.time + price.backward.time;
      time.transfer_forward += price.forward.time;
      evaluation.extrapolated |= price.forward.extrapolated || price.backward.extrapolated;
      for (std::size_t i = 0; i < price.forward.sent.size(); ++i) {
        evaluation.traffic[at(s)].sends[i] += plan.num_microbatches * price.forward.sent[i];
      }
      for (std::size_t i = 0; i < price.backward.sent.size(); ++i) {
        evaluation.traffic[at(next)].sends[i] += plan.num_microbatches * price.backward.sent[i];
      }
    }
  }
}

void Evaluator::State::add_ties(const Plan& plan, Evaluation& evaluation) {
  for (const TiedParameter& tied : graph.tied) {
    if (tied_mode(graph, plan, tied) == TiedMode::kShared) {
      continue;
    }
    const BoundaryPrice& price = tie_price(plan, tied);
    const int owner = place_of(plan, tied.owner_layer).stage;
    const int alias = place_of(plan, tied.alias_layer).stage;
    const Picoseconds both = price.forward.time + price.backward.time;
    evaluation.stage_times[at(owner)].tied_exchange += both;
    if (alias != owner) {
      evaluation.stage_times[at(alias)].tied_exchange += both;
    }
    evaluation.extrapolated |= price.forward.extrapolated || price.backward.extrapolated;
    for (std::size_t i = 0; i < price.forward.sent.size(); ++i) {
      evaluation.traffic[at(owner)].sends[i] += price.forward.sent[i];
    }
    for (std::size_t i = 0; i < price.backward.sent.size(); ++i) {
      evaluation.traffic[at(alias)].sends[i] += price.backward.sent[i];
    }
  }
}

Evaluation Evaluator::State::evaluate(const Plan& plan) {
  SHARDWISE_CHECK(graph.microbatch == plan.microbatch() && graph.sequence == plan.sequence,
                  "the graph is built for the plan's micro-batch");
  if (!traits_of(plan.schedule).has_cost_formula && !bubble_share(plan.schedule)) {
    throw InputError(
        "schedule " + to_string(plan.schedule),
        "there is no formula for its step time; use `shardwise simulate`, or plan with "
        "gpipe, 1f1b, 1f1b-eager or interleaved");
  }
  Evaluation evaluation;
  evaluation.stage_times.resize(plan.stages.size());
  evaluation.stage_memory.resize(plan.stages.size());
  evaluation.traffic.resize(plan.stages.size());
  int ranks = 0;
  for (int s = 0; s < plan.num_stages(); ++s) {
    add_stage(plan, s, evaluation);
    ranks += static_cast<int>(plan.stages[at(s)].devices.size());
  }
  add_boundaries(plan, evaluation);
  add_ties(plan, evaluation);
  for (StageTime& time : evaluation.stage_times) {
    hide_communication(plan, costs.execution(), time);
  }
  const Estimate overhead = costs.step_overhead(ranks);
  evaluation.overhead = to_picoseconds(overhead.time);
  evaluation.extrapolated |= overhead.extrapolated;
  combine(plan, evaluation);
  return evaluation;
}

Evaluator::Evaluator(const Graph& graph, const Cluster& cluster, const CostTable& costs)
    : state_(new State{graph, cluster, costs, {}, {}, {}, {}, {}, {}}) {}
Evaluator::~Evaluator() = default;

Evaluation Evaluator::evaluate(const Plan& plan) { return state_->evaluate(plan); }

void Evaluator::price_again() {
  state_->layers.clear();
  for (auto* prices : {&state_->boundaries, &state_->ties}) {
    for (auto& [key, price] : *prices) {
      internal::price_again(price.forward, state_->costs);
      internal::price_again(price.backward, state_->costs);
    }
  }
}

Evaluation evaluate(const Plan& plan,
                    const Graph& graph,
                    const Cluster& cluster,
                    const CostTable& costs) {
  return Evaluator(graph, cluster, costs).evaluate(plan);
}

}  // namespace shardwise
