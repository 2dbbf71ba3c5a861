#include "planner/target_prices.h"

#include <algorithm>
#include <limits>
#include <set>

#include "core/errors.h"
#include "graph/tied.h"

namespace shardwise::planning {

namespace {

using internal::LayerPrice;
using internal::ParameterRole;
using internal::TieRole;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::vector<int> devices_of(const Mesh& mesh, int start) {
  std::vector<int> devices;
  devices.reserve(at(mesh.devices()));
  for (int i = 0; i < mesh.devices(); ++i) {
    devices.push_back(start + i);
  }
  return devices;
}

std::int64_t between(const std::vector<std::int64_t>& sums, int begin, int end) {
  return sums[at(end)] - sums[at(begin)];
}

// What a stage of layers [begin, end) of a row keeps of one micro-batch.
std::int64_t kept(const LayerRow& row, int begin, int end) {
  return between(row.saved, begin, end) - (row.shared[at(end - 1)] - row.shared[at(begin)]);
}

}  // namespace

TargetPrices::TargetPrices(const Graph& graph,
                           int num_microbatches,
                           Precision precision,
                           const Cluster& cluster,
                           const CostTable& costs)
    : graph_(graph),
      num_microbatches_(num_microbatches),
      precision_(precision),
      cluster_(cluster),
      costs_(costs) {}

int TargetPrices::surroundings(const Mesh& mesh, int start) {
  const auto [entry, is_new] = numbers_.try_emplace({mesh, start}, 0);
  if (is_new) {
    StagePlan stage;
    stage.mesh = mesh;
    stage.devices = devices_of(mesh, start);
    internal::Surroundings around = internal::surroundings_of(cluster_, stage);
    const auto [known, is_unknown] =
        known_.try_emplace(around, static_cast<int>(surroundings_.size()));
    if (is_unknown) {
      surroundings_.push_back(std::move(around));
    }
    entry->second = known->second;
  }
  return entry->second;
}

LayerPrice TargetPrices::layer_price(
    const TargetGrid& grid, const LayerPlan& plan, int layer, int around, bool is_shared) const {
  std::vector<ParameterRole> roles;
  for (const TiedParameter& tied : graph_.tied) {
    const ParameterPlace owner = owner_of(graph_, tied);
    const ParameterPlace alias = alias_of(graph_, tied);
    if (owner.layer == layer && !is_shared) {
      roles.push_back({owner.op, owner.index, TieRole::kExchangedOwner});
    }
    if (alias.layer == layer) {
      roles.push_back(
          {alias.op, alias.index, is_shared ? TieRole::kSharedAlias : TieRole::kExchangedAlias});
    }
  }
  return internal::price_layer(graph_.block_of(layer),
                               plan,
                               layer + 1 == num_layers() ? Layout{} : grid_boundary(grid),
                               precision_,
                               surroundings_[at(around)],
                               roles,
                               costs_);
}

LayerRow TargetPrices::row(const TargetGrid& grid,
                           const std::vector<LayerPlan>& layers,
                           int around,
                           bool has_stages) {
  bool is_shared = !has_stages;
  if (is_shared) {
    const Plan plan = grid_plan(graph_, grid, layers, 0, 1, {num_layers()});
    for (const TiedParameter& tied : graph_.tied) {
      is_shared = is_shared && tied_mode(graph_, plan, tied) == TiedMode::kShared;
    }
  }
  LayerRow row;
  for (auto* sums : {&row.forward, &row.time, &row.per_step, &row.state, &row.saved}) {
    sums->assign(1, 0);
  }
  std::map<std::tuple<int, bool, bool>, LayerPrice> prices;  // block, first, last
  const LayerPrice* before = nullptr;
  for (int layer = 0; layer < num_layers(); ++layer) {
    const auto [entry, is_new] =
        prices.try_emplace({graph_.layers[at(layer)].block, layer == 0, layer + 1 == num_layers()});
    if (is_new) {
      entry->second = layer_price(grid, layers[at(layer)], layer, around, is_shared);
    }
    const LayerPrice& price = entry->second;
    const std::int64_t forward =
        (price.forward + price.forward_collectives + price.forward_gather).count;
    const std::int64_t backward =
        (price.recompute + price.backward + price.backward_collectives + price.backward_state)
            .count;
    row.forward.push_back(row.forward.back() + forward);
    row.time.push_back(row.time.back() + forward + backward);
    row.per_step.push_back(
        row.per_step.back() +
        (price.exposed_reduction + price.optimizer + price.parameter_gather).count);
    row.state.push_back(row.state.back() +
                        (price.weights + price.gradients + price.optimizer_state).count);
    row.saved.push_back(row.saved.back() + price.saved.count);
    const bool is_kept_twice = before != nullptr && before->saves_output && price.saves_input;
    row.shared.push_back((row.shared.empty() ? 0 : row.shared.back()) +
                         (is_kept_twice ? price.input.count : 0));
    row.transient.push_back(price.transient.count);
    row.block.push_back(graph_.layers[at(layer)].block);
    row.input.push_back(price.input.count);
    row.output.push_back(price.output.count);
    before = &price;
  }
  return row;
}

const LayerRow& TargetPrices::known_row(const TargetGrid& grid,
                                        const std::vector<LayerPlan>& layers,
                                        int around,
                                        bool has_stages) {
  const RowKey key{grid.mesh,
                   grid.roles,
                   grid.sequence_parallel,
                   grid.spreads_experts,
                   grid.state,
                   grid.recompute,
                   around,
                   has_stages};
  auto found = rows_.find(key);
  if (found == rows_.end()) {
    found = rows_.emplace(key, row(grid, layers, around, has_stages)).first;
  }
  return found->second;
}

TargetPrices::Transfer TargetPrices::transfer(const TargetGrid& grid, int from, int to) {
  const Layout layout = grid_boundary(grid);
  const auto [entry, is_new] = transfers_.try_emplace({grid.mesh, layout, from, to});
  if (is_new) {
    const Block& block = graph_.block_of(0);
    const Tensor& tensor = block.tensors[at(block.outputs[0])];
    const TensorPlacement sender{layout, grid.mesh, devices_of(grid.mesh, from)};
    const TensorPlacement receiver{layout, grid.mesh, devices_of(grid.mesh, to)};
    const std::int64_t element = element_bytes(tensor.type, precision_);
    const auto time = [&](const TensorPlacement& a, const TensorPlacement& b) {
      return internal::price_transfer(tensor.shape, a, b, element, cluster_, costs_).time.count;
    };
    entry->second.forward = time(sender, receiver);
    entry->second.both = entry->second.forward + time(receiver, sender);
  }
  return entry->second;
}

std::int64_t TargetPrices::tie_time(const TargetGrid& grid,
                                    const std::vector<LayerPlan>& layers,
                                    const GridPipeline& pipeline) const {
  std::vector<int> counts(at(pipeline.num_stages), 1);
  counts.back() = num_layers() - pipeline.num_stages + 1;
  Plan plan = grid_plan(graph_, grid, layers, pipeline.start, pipeline.num_stages, counts);
  plan.precision = precision_;
  std::int64_t time = 0;
  for (const TiedParameter& tied : graph_.tied) {
    if (tied_mode(graph_, plan, tied) == TiedMode::kShared) {
      continue;
    }
    const TiedMessages messages = tied_messages(graph_, plan, tied);
    const auto price = [&](const std::vector<RedistributionMessage>& list,
                           const ParameterPlace& sender,
                           ElementType type) {
      return internal::price_messages(list,
                                      parameter_devices(graph_, plan, sender).devices,
                                      element_bytes(type, precision_),
                                      cluster_,
                                      costs_)
          .time.count;
    };
    time += price(messages.parameters, owner_of(graph_, tied), ElementType::kCompute) +
            price(messages.gradients, alias_of(graph_, tied), ElementType::kFloat32);
  }
  return time;
}

std::int64_t TargetPrices::memory_limit(int start) const {
  const DeviceType& type = cluster_.types[at(cluster_.type_of(start))];
  return (type.memory - type.reserve - costs_.process_memory()).count;
}

SplitProblem TargetPrices::split_problem(const TargetGrid& grid,
                                         const std::vector<LayerPlan>& layers,
                                         const GridPipeline& pipeline,
                                         const std::function<bool(int, int)>& may_be_stage) {
  const int stages = pipeline.num_stages;
  const int chunks = pipeline.num_chunks;
  const bool is_interleaved = pipeline.schedule == Schedule::kInterleaved;
  const int n = grid.mesh.devices();
  std::vector<const LayerRow*> rows;
  std::vector<std::int64_t> limits;
  std::vector<Transfer> transfers(at(stages));
  for (int s = 0; s < stages; ++s) {
    const int start = pipeline.start + s * n;
    rows.push_back(&known_row(grid, layers, surroundings(grid.mesh, start), stages > 1));
    limits.push_back(memory_limit(start));
    const bool is_last = s + 1 == stages;
    if (!is_last || chunks > 1) {
      const Transfer one = transfer(grid, start, is_last ? pipeline.start : start + n);
      const int times = is_last ? chunks - 1 : chunks;
      transfers[at(s)] = {times * one.forward, times * one.both};
    }
  }
  const std::int64_t tie = graph_.tied.empty() ? 0 : tie_time(grid, layers, pipeline);
  const std::int64_t overhead = to_picoseconds(costs_.step_overhead(stages * n).time).count;
  const int m = num_microbatches_;
  const int last_layer = num_layers() - 1;

  SplitProblem problem;
  problem.num_stages = stages;
  problem.num_layers = is_interleaved ? 2 + (num_layers() - 2) / chunks : num_layers();
  const int folded_head = problem.num_layers - 1;
  problem.step = [=](const SplitCost& total) {
    const std::int64_t period = total.first_period + total.second_period;
    const std::int64_t fill =
        is_interleaved ? period + ((stages - 1) * period + chunks - 1) / chunks : total.sum;
    return fill + (m - 1) * period + total.per_step + overhead;
  };
  problem.cost = [=](int s, int begin, int end) -> std::optional<SplitCost> {
    const LayerRow& row = *rows[at(s)];
    const bool has_first = begin == 0;
    const bool has_head = end == problem.num_layers;
    // Decoder layers of one chunk, as layers of the model.
    const int first = std::max(begin, 1);
    const int behind = std::min(end, folded_head);
    if (is_interleaved ? behind <= first : !may_be_stage(begin, end)) {
      return std::nullopt;
    }
    const auto sum = [&](const std::vector<std::int64_t>& sums) {
      if (!is_interleaved) {
        return between(sums, begin, end);
      }
      return chunks * between(sums, first, behind) + (has_first ? between(sums, 0, 1) : 0) +
             (has_head ? between(sums, last_layer, last_layer + 1) : 0);
    };
    // Memory.
    std::vector<internal::LayerMemory> memories;
    for (int i = begin; i < end; ++i) {
      const int layer = is_interleaved && i == folded_head ? last_layer : i;
      const std::int64_t so_far = is_interleaved ? 0 : kept(row, begin, i + 1);
      memories.push_back({row.block[at(layer)], Bytes(so_far), Bytes(row.transient[at(layer)])});
    }
    const std::int64_t transient = internal::chunk_transient(memories, !is_interleaved).count;
    std::int64_t activations = 0;
    if (is_interleaved) {
      std::vector<Bytes> by_chunk;
      for (int c = 0; c < chunks; ++c) {
        // The head behind the last decoder of the chunk shares its boundary as at the model's end.
        std::int64_t bytes = kept(row, first, behind);
        if (has_first && c == 0) {
          bytes = kept(row, 0, behind);
        }
        if (has_head && c + 1 == chunks) {
          bytes += between(row.saved, last_layer, last_layer + 1) -
                   (row.shared[at(last_layer)] - row.shared[at(last_layer - 1)]);
        }
        by_chunk.emplace_back(bytes);
      }
      activations = internal::interleaved_activations(stages, s, m, by_chunk).count;
    } else {
      const int in_flight = microbatches_in_flight(pipeline.schedule, stages, s, m, chunks);
      activations = in_flight * kept(row, begin, end);
    }
    const bool is_first_stage = s == 0;
    const bool is_last_stage = s + 1 == stages;
    // Twice what a chunk receives and sends; with several chunks one of them does both.
    const std::int64_t sent = row.output[0];
    const int ends = chunks > 1 ? 2 : (is_first_stage ? 0 : 1) + (is_last_stage ? 0 : 1);
    const std::int64_t memory =
        sum(row.state) + activations + transient + std::int64_t{2} * ends * sent;
    if (memory > limits[at(s)]) {
      return std::nullopt;
    }
    // Time.
    const std::int64_t time = sum(row.time);
    const std::int64_t forward = sum(row.forward);
    const Transfer& transfer = transfers[at(s)];
    SplitCost cost;
    cost.sum = time + transfer.both;
    if (pipeline.schedule == Schedule::kGpipe) {
      cost.first_period = std::max(forward, transfer.forward);
      cost.second_period = std::max(time - forward, transfer.both - transfer.forward);
    } else if (pipeline.schedule == Schedule::k1F1BEager) {
      cost.first_period = std::max(time, transfer.both);
    } else {
      cost.first_period = time + transfer.both;
    }
    const bool has_tie = is_first_stage || is_last_stage;
    cost.per_step = sum(row.per_step) + (has_tie ? tie : 0);
    return cost;
  };
  return problem;
}

std::int64_t TargetPrices::bound(const TargetGrid& grid,
                                 const std::vector<LayerPlan>& layers,
                                 const GridPipeline& pipeline) {
  const int stages = pipeline.num_stages;
  std::set<int> seen;
  std::vector<const LayerRow*> rows;
  for (int s = 0; s < stages; ++s) {
    const int around = surroundings(grid.mesh, pipeline.start + s * grid.mesh.devices());
    if (seen.insert(around).second) {
      rows.push_back(&known_row(grid, layers, around, stages > 1));
    }
  }
  const auto least = [&](std::vector<std::int64_t> LayerRow::*sums) {
    std::int64_t total = 0;
    for (int layer = 0; layer < num_layers(); ++layer) {
      std::int64_t one = std::numeric_limits<std::int64_t>::max();
      for (const LayerRow* row : rows) {
        one = std::min(one, between(row->*sums, layer, layer + 1));
      }
      total += one;
    }
    return total;
  };
  const std::int64_t work = least(&LayerRow::time);
  const std::int64_t per_step = least(&LayerRow::per_step);
  // Some stage has at least its share of the work and of what is paid once a step.
  const std::int64_t period = (work + stages - 1) / stages;
  const std::int64_t fill =
      pipeline.schedule == Schedule::kInterleaved
          ? period + ((stages - 1) * period + pipeline.num_chunks - 1) / pipeline.num_chunks
          : work;
  return fill + (num_microbatches_ - 1) * period + (per_step + stages - 1) / stages;
}

std::vector<int> TargetPrices::chunk_layers(const GridPipeline& pipeline,
                                            const std::vector<int>& counts) const {
  if (pipeline.schedule != Schedule::kInterleaved) {
    return counts;
  }
  std::vector<int> all;
  for (int c = 0; c < pipeline.num_chunks; ++c) {
    for (int s = 0; s < pipeline.num_stages; ++s) {
      const bool is_first = s == 0;
      const bool is_last = s + 1 == pipeline.num_stages;
      const int decoders = counts[at(s)] - (is_first ? 1 : 0) - (is_last ? 1 : 0);
      all.push_back(decoders + (is_first && c == 0 ? 1 : 0) +
                    (is_last && c + 1 == pipeline.num_chunks ? 1 : 0));
    }
  }
  return all;
}

}  // namespace shardwise::planning
