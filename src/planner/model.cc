#include "planner/model.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/errors.h"
#include "cost/stage_prices.h"
#include "graph/layer_body.h"
#include "graph/op_definition.h"
#include "graph/redistribution.h"
#include "graph/tied.h"
#include "planner/graph_options.h"

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

// Whether backward of this block may read the very value that it hands to the next layer.
bool saves_output(const Block& block) {
  if (block.outputs.empty()) {
    return false;
  }
  const auto [producer, output] = producer_of(block, block.outputs[0]);
  if (producer >= 0) {
    const Op& op = block.ops[at(producer)];
    const std::vector<int> saved = definition_of(op.kind).saved(op).outputs;
    if (std::find(saved.begin(), saved.end(), output) != saved.end()) {
      return true;
    }
  }
  return !uses_of(block, block.outputs[0]).empty();
}

// Layers share a block only if the same constraints speak of them. `rules`: constraints of each
// block.
Graph with_constraints(Graph graph,
                       const Constraints& constraints,
                       std::vector<Constraints>& rules) {
  std::map<std::pair<int, std::vector<int>>, int> numbers;
  std::vector<Block> blocks;
  for (Layer& layer : graph.layers) {
    const std::vector<int> here = constraints_on(constraints, layer.name);
    const auto [known, is_new] =
        numbers.emplace(std::make_pair(layer.block, here), static_cast<int>(blocks.size()));
    if (is_new) {
      blocks.push_back(graph.blocks[at(layer.block)]);
      rules.emplace_back();
      for (const int number : here) {
        rules.back().push_back(constraints[at(number)]);
      }
    }
    layer.block = known->second;
  }
  graph.blocks = std::move(blocks);
  return graph;
}

}  // namespace

MicrobatchModel::MicrobatchModel(const PlanRequest& request,
                                 const Cluster& cluster,
                                 const CostTable& costs,
                                 const StagePlaces& places,
                                 BlockPool& pool,
                                 const Deadline& deadline,
                                 int num_microbatches)
    : request_(request),
      cluster_(cluster),
      costs_(costs),
      places_(places),
      pool_(pool),
      deadline_(deadline),
      num_microbatches_(num_microbatches),
      graph_(with_constraints(
          request.graph(request.batch / num_microbatches), request.constraints, constraints_)),
      is_free_(std::all_of(constraints_.begin(), constraints_.end(), [](const Constraints& rules) {
        return rules.empty();
      })) {
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
  const auto [entry, is_new] = shapes_at_.try_emplace(places_.name_of(place));
  if (!is_new) {
    return entry->second;
  }
  const std::vector<int> devices = devices_at(place);
  for (const Mesh& mesh :
       meshes_of(graph_, place.size, request_.free_axes, request_.limits, places_.is_aligned())) {
    const StageShape shape = shape_of(cluster_, devices, mesh);
    if (mesh.sizes[1] < mesh.sizes[2] && !order_matters(shape)) {
      continue;  // the same as with both axes renamed
    }
    const auto [number, is_new_shape] =
        shape_numbers_.try_emplace(shape, static_cast<int>(shapes_.size()));
    if (is_new_shape) {
      shapes_.push_back(std::make_unique<StageShape>(shape));
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
                                         last == 0 ? TiedPlace{} : tied,
                                         constraints_[at(block)],
                                         pool_.activations_of(block,
                                                              graph_.blocks[at(block)],
                                                              shape(shape_number),
                                                              graph_.microbatch,
                                                              constraints_[at(block)]));
  }
  return *known;
}

std::int64_t MicrobatchModel::memory_limit(int shape_number) const {
  const DeviceType& type = cluster_.types[at(shape(shape_number).device_type)];
  return type.memory.count - type.reserve.count - costs_.process_memory().count;
}

std::vector<Mode> MicrobatchModel::modes(int layer, TieCase tie, bool ignores_memory) const {
  std::vector<Recompute> recomputes = allowed_of(
      request_.limits.recomputes, {Recompute::kNone, Recompute::kSelective, Recompute::kFull});
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
      const Constraints& rules = constraints_[at(block_of(layer))];
      if (std::all_of(rules.begin(), rules.end(), [&](const Constraint& constraint) {
            return allows_mode(constraint, sharding, recompute);
          })) {
        modes.push_back({sharding, recompute, role});
      }
    }
  }
  // Recomputation only costs time.
  const bool may_keep = std::any_of(modes.begin(), modes.end(), [](const Mode& mode) {
    return mode.recompute == Recompute::kNone;
  });
  if (ignores_memory && may_keep) {
    std::erase_if(modes, [](const Mode& mode) { return mode.recompute != Recompute::kNone; });
  }
  return modes;
}

std::pair<StagePlace, StagePlace> MicrobatchModel::names_of(const StagePlace& a,
                                                            const StagePlace& b) const {
  const bool is_flat =
      cluster_.levels.empty() ||
      (cluster_.levels.size() == 1 && cluster_.num_devices() <= cluster_.levels[0].size);
  if (!is_flat || a == b) {
    return places_.names_of(a, b);
  }
  return {{a.type, 0, a.size}, {b.type, -1, b.size}};
}

std::int64_t MicrobatchModel::messages_time(const std::vector<std::int64_t>& shape,
                                            std::int64_t element,
                                            const TensorPlacement& from,
                                            const TensorPlacement& to) const {
  return internal::price_transfer(shape, from, to, element, cluster_, costs_).time.count;
}

const Layout& MicrobatchModel::boundary_layout(int layer, const StageEnd& end) {
  return block_costs(end.shape, block_of(layer)).outputs()[at(end.state)];
}

bool MicrobatchModel::may_interleave() const {
  return std::none_of(
      request_.constraints.begin(), request_.constraints.end(), [](const Constraint& constraint) {
        return constraint.subject == Constraint::Subject::kCut;
      });
}

bool MicrobatchModel::may_be_stage(int begin, int end) const {
  if (is_free_) {
    return true;
  }
  for (int layer = std::max(begin, 1); layer < end; ++layer) {
    const StageBegin where = layer == begin ? StageBegin::kHere : StageBegin::kEarlier;
    for (const Constraint& constraint : constraints_[at(block_of(layer))]) {
      if (!allows_cut(constraint, where)) {
        return false;
      }
    }
  }
  return true;
}

Transfer MicrobatchModel::transfer(int layer, const StageEnd& sender, const StageEnd& receiver) {
  const Mesh& from_mesh = shape(sender.shape).mesh;
  const Mesh& to_mesh = shape(receiver.shape).mesh;
  const Layout& output = boundary_layout(layer, sender);
  const Layout& input = boundary_layout(layer, receiver);
  const auto [from, to] = names_of(sender.place, receiver.place);
  const Block& block = graph_.block_of(layer);
  const Tensor& tensor = block.tensors[at(block.outputs[0])];
  const auto [entry, is_new] = transfers_.try_emplace(
      {tensor.shape, TransferKey{from, from_mesh, output, to, to_mesh, input}});
  if (is_new) {
    const std::int64_t element = element_bytes(tensor.type, request_.precision);
    const TensorPlacement a{output, from_mesh, devices_at(sender.place)};
    const TensorPlacement b{input, to_mesh, devices_at(receiver.place)};
    entry->second = {messages_time(tensor.shape, element, a, b),
                     messages_time(tensor.shape, element, b, a)};
  }
  return entry->second;
}

TensorPlacement MicrobatchModel::placement_of_tied(const StageEnd& end,
                                                   int layer,
                                                   const Option& option) {
  const TiedPlace tied = tied_place(layer);
  const Op& op = graph_.block_of(layer).ops[at(tied.op)];
  const BlockCosts& costs = block_costs(end.shape, block_of(layer));
  const Mesh& mesh = shape(end.shape).mesh;
  const AxisAssignment& assignment = costs.choices(tied.op)[option.choices[at(tied.op)]];
  return {input_layout(op, op.parameters[at(tied.index)], assignment, mesh),
          mesh,
          devices_at(end.place)};
}

std::int64_t MicrobatchModel::tie_exchange(const StageEnd& owner,
                                           const Option& owner_option,
                                           const StageEnd& alias,
                                           const Option& alias_option) {
  const int last = num_layers() - 1;
  const TensorPlacement at_owner = placement_of_tied(owner, 0, owner_option);
  const TensorPlacement at_alias = placement_of_tied(alias, last, alias_option);
  const auto [from, to] = names_of(owner.place, alias.place);
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

std::int64_t MicrobatchModel::least_overhead(int used) {
  const int total = places_.num_used(used);
  if (cluster_.levels.size() <= 1) {
    return step_overhead(total);
  }
  // Devices in between may be idle.
  for (int ranks = static_cast<int>(least_overheads_.size()); ranks <= total; ++ranks) {
    const std::int64_t here = step_overhead(ranks);
    least_overheads_.push_back(ranks > 1 ? std::min(least_overheads_.back(), here) : here);
  }
  return least_overheads_[at(total)];
}

BlockOptions& MicrobatchModel::options(int shape_number, int layer, TieCase tie) {
  std::unique_ptr<BlockOptions>& known = options_[{shape_number, block_of(layer), tie}];
  if (known == nullptr) {
    known = std::make_unique<GraphOptions>(block_costs(shape_number, block_of(layer)),
                                           pool_.eliminations(),
                                           modes(layer, tie, false),
                                           modes(layer, tie, true),
                                           saves_output(graph_.block_of(layer)));
  }
  return *known;
}

// --- plans --------------------------------------------------------------------------------------

Plan MicrobatchModel::plan_of(const PipelineSolution& solution) {
  Plan plan;
  plan.batch = request_.batch;
  plan.sequence = request_.sequence;
  plan.num_microbatches = num_microbatches_;
  plan.schedule = solution.schedule;
  plan.precision = request_.precision;
  for (const StageSolution& stage : solution.stages) {
    plan.stages.push_back(stage_plan(stage, solution.chunks, plan));
  }
  int layer = 0;
  for (int c = 0; c < plan.num_chunks(); ++c) {
    for (StagePlan& stage : plan.stages) {
      stage.chunks[at(c)].first_layer = layer;
      layer += static_cast<int>(stage.chunks[at(c)].layers.size());
    }
  }
  return plan;
}

// With several chunks the stages divide the layers of one: embedding, decoders, head.
StagePlan MicrobatchModel::stage_plan(const StageSolution& solution, int chunks, Plan& plan) {
  StagePlan stage;
  stage.mesh = shape(solution.shape).mesh;
  stage.devices = devices_at(solution.place);
  stage.chunks.resize(at(chunks));
  const int chain_size = chunks > 1 ? 2 + (num_layers() - 2) / chunks : num_layers();
  const int end = solution.begin + static_cast<int>(solution.options.size());
  for (int i = solution.begin; i < end; ++i) {
    const bool is_head = i + 1 == chain_size;
    const Option& option = solution.options[at(i - solution.begin)];
    const BlockCosts& costs = block_costs(solution.shape, block_of(is_head ? num_layers() - 1 : i));
    const LayerPlan layer = layer_plan_of(costs, option);
    for (int o = 0; o < costs.num_ops(); ++o) {
      plan.context_chunks =
          std::max(plan.context_chunks,
                   context_degree(costs.block().ops[at(o)], layer.op_axes[at(o)], stage.mesh));
    }
    const bool is_once = chunks > 1 && (i == 0 || is_head);
    for (int c = 0; c < chunks; ++c) {
      if (!is_once || c == (i == 0 ? 0 : chunks - 1)) {
        stage.chunks[at(c)].layers.push_back(layer);
      }
    }
    // A chunk ends in the layout of its last decoder layer.
    if (!is_head) {
      for (ChunkPlan& chunk : stage.chunks) {
        chunk.output_layout = costs.outputs()[at(option.output)];
      }
    } else {
      stage.chunks.back().output_layout = Layout{};
    }
  }
  return stage;
}

std::int64_t MicrobatchModel::step_overhead(int ranks) {
  const auto [entry, is_new] = overheads_.try_emplace(ranks, 0);
  if (is_new) {
    entry->second = to_picoseconds(costs_.step_overhead(ranks).time).count;
  }
  return entry->second;
}

}  // namespace shardwise::planning
