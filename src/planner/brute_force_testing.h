// Every plan of the space, one after the other, judged by evaluate(): the oracle of the planner's
// tests. Shares no code with the planner; the space is spelled out a second time.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "cost/evaluator.h"
#include "cost/stage_prices.h"
#include "graph/tied.h"
#include "planner/planner.h"

namespace shardwise::testing {

class BruteForce {
 public:
  BruteForce(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request), cluster_(cluster), costs_(costs) {}

  // Step time of the fastest plan that fits.
  std::optional<Picoseconds> best() {
    for (int count = 1; count <= request_.batch; ++count) {
      if (request_.batch % count == 0 && allowed(request_.microbatch_counts, count)) {
        search_count(count);
      }
    }
    return best_;
  }

  const std::optional<Plan>& best_plan() const { return best_plan_; }
  std::int64_t plans() const { return plans_; }
  // Above this many plans the search stops and says so.
  std::int64_t most_plans = 400'000;
  // Plans that count; unset: all.
  std::function<bool(const Plan&, const Graph&)> accepts;
  // Options of a layer with equal prices and equal tags count once; unset: all tags are equal.
  std::function<int(const Graph&, int layer, const Mesh&, const LayerPlan&)> tag;
  bool gave_up() const { return plans_ > most_plans; }

 private:
  static std::size_t at(int index) { return static_cast<std::size_t>(index); }

  template <typename Value>
  static bool allowed(const std::vector<Value>& list, Value value) {
    return list.empty() || std::find(list.begin(), list.end(), value) != list.end();
  }

  void search_count(int count) {
    graph_ = request_.graph(request_.batch / count);
    evaluator_ = std::make_unique<Evaluator>(graph_, cluster_, costs_);
    options_.clear();
    Plan plan;
    plan.batch = request_.batch;
    plan.sequence = request_.sequence;
    plan.num_microbatches = count;
    plan.precision = request_.precision;
    const int layers = static_cast<int>(graph_.layers.size());
    for (int stages = 1; stages <= layers; ++stages) {
      if (request_.limits.max_stages > 0 && stages > request_.limits.max_stages) {
        continue;
      }
      for (const Schedule schedule : {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe}) {
        if (allowed(request_.schedules, schedule)) {
          plan.schedule = schedule;
          place_stages(plan, stages, 1, layers, std::vector<int>(cluster_.types.size(), 0));
        }
      }
      if (allowed(request_.schedules, Schedule::kInterleaved) && stages > 1 &&
          count % stages == 0) {
        // One chunk is never better than the plain schedules.
        const bool is_dominated = allowed(request_.schedules, Schedule::k1F1B) ||
                                  allowed(request_.schedules, Schedule::k1F1BEager);
        for (int chunks = is_dominated ? 2 : 1; chunks * stages <= layers - 2; ++chunks) {
          if ((layers - 2) % chunks == 0) {
            plan.schedule = Schedule::kInterleaved;
            place_stages(plan,
                         stages,
                         chunks,
                         2 + (layers - 2) / chunks,
                         std::vector<int>(cluster_.types.size(), 0));
          }
        }
      }
    }
  }

  int node_size() const { return cluster_.levels.empty() ? 1 << 20 : cluster_.levels[0].size; }

  int nodes(const std::vector<int>& devices) const {
    std::set<int> nodes;
    for (const int device : devices) {
      nodes.insert(device / node_size());
    }
    return static_cast<int>(nodes.size());
  }

  // Adds a stage in front of those placed: layers [begin, end) of `end` that are left.
  void place_stages(
      const Plan& plan, int stages_left, int chunks, int end, const std::vector<int>& used) {
    if (stages_left == 0) {
      if (end == 0) {
        choose_layers(plan, chunks);
      }
      return;
    }
    for (int type = 0; type < static_cast<int>(cluster_.types.size()); ++type) {
      std::vector<int> devices;
      for (int device = 0; device < cluster_.num_devices(); ++device) {
        if (cluster_.type_of(device) == type) {
          devices.push_back(device);
        }
      }
      const int count = static_cast<int>(devices.size());
      for (int size = 1; size <= count - used[at(type)]; ++size) {
        if (request_.limits.max_stage_devices > 0 && size > request_.limits.max_stage_devices) {
          continue;
        }
        const int fewest = (size + node_size() - 1) / node_size();
        bool is_tight = true;
        for (int start = count - used[at(type)] - size; start >= 0; --start) {
          StagePlan stage;
          stage.devices.assign(devices.begin() + start, devices.begin() + start + size);
          const bool straddles = nodes(stage.devices) > fewest;
          if (is_tight || !straddles) {
            std::vector<int> next = used;
            next[at(type)] = count - start;
            choose_mesh(plan, stages_left, chunks, end, next, stage);
          }
          is_tight = false;
          if (!straddles) {
            break;
          }
        }
      }
    }
  }

  bool can_shard(int size) const {
    for (const Block& block : graph_.blocks) {
      for (const Op& op : block.ops) {
        for (std::size_t a = 0; a < op.axes.size(); ++a) {
          if (is_valid_assignment(
                  op, {kUnassigned, static_cast<std::int8_t>(a), kUnassigned}, {{1, size, 1}})) {
            return true;
          }
        }
      }
    }
    return false;
  }

  void choose_mesh(const Plan& plan,
                   int stages_left,
                   int chunks,
                   int end,
                   const std::vector<int>& used,
                   StagePlan stage) {
    const int size = static_cast<int>(stage.devices.size());
    for (int data = 1; data <= size; ++data) {
      for (int first = 1; first <= size; ++first) {
        for (int second = 1; second <= size; ++second) {
          const int axes = (first > 1 ? 1 : 0) + (second > 1 ? 1 : 0);
          const bool is_flat = level_spanned(cluster_, stage.devices) == 0;
          if (data * first * second != size || graph_.microbatch % data != 0 ||
              axes > request_.free_axes || (first == 1 && second > 1) ||
              (is_flat && first < second) || (first > 1 && !can_shard(first)) ||
              (second > 1 && !can_shard(second)) ||
              (request_.limits.max_data_degree > 0 && data > request_.limits.max_data_degree)) {
            continue;
          }
          stage.mesh = {{data, first, second}};
          for (int begin = 0; begin < end; ++begin) {
            if (plan.schedule == Schedule::kInterleaved) {  // a decoder layer in every chunk
              const int folded = 2 + (static_cast<int>(graph_.layers.size()) - 2) / chunks;
              if (std::min(end, folded - 1) - std::max(begin, 1) < 1) {
                continue;
              }
            }
            Plan longer = plan;
            StagePlan next = stage;
            ChunkPlan chunk;
            chunk.first_layer = begin;
            chunk.layers.resize(at(end - begin));
            next.chunks = {chunk};
            longer.stages.insert(longer.stages.begin(), next);
            place_stages(longer, stages_left - 1, chunks, begin, used);
          }
        }
      }
    }
  }

  // --- layers -----------------------------------------------------------------------------------

  // Layers of the folded chain: embedding, decoders of one chunk, head.
  int layer_of(int folded, int chunks) const {
    const int last = static_cast<int>(graph_.layers.size()) - 1;
    return chunks > 1 && folded == 1 + (last - 1) / chunks ? last : folded;
  }

  void choose_layers(const Plan& plan, int chunks) {
    Plan next = plan;
    choose_boundary(next, 0, 0, chunks);
  }

  std::vector<Layout> boundary_layouts(const Mesh& mesh) const {
    const Block& block = graph_.block_of(0);
    const std::vector<std::int64_t>& shape = block.tensors[at(block.outputs[0])].shape;
    std::vector<Layout> layouts;
    for (int first = -1; first < 3; ++first) {
      for (int second = -1; second < 3; ++second) {
        Layout layout{};
        layout[0] = mesh.sizes[0] > 1 ? AxisLayout::shard(0) : AxisLayout::replicate();
        layout[1] = first >= 0 ? AxisLayout::shard(first) : AxisLayout::replicate();
        layout[2] = second >= 0 ? AxisLayout::shard(second) : AxisLayout::replicate();
        if ((first >= 0 && mesh.sizes[1] == 1) || (second >= 0 && mesh.sizes[2] == 1)) {
          continue;
        }
        if (is_convertible(shape, layout, {}, mesh)) {
          layouts.push_back(layout);
        }
      }
    }
    return layouts;
  }

  // All input layouts and stage output layouts first, then options layer by layer.
  void choose_boundary(Plan& plan, int stage, int index, int chunks) {
    if (stage == plan.num_stages()) {
      choose_option(plan, 0, 0, chunks);
      return;
    }
    ChunkPlan& chunk = plan.stages[at(stage)].chunks[0];
    const std::vector<Layout> layouts = graph_.layers.size() > 1
                                            ? boundary_layouts(plan.stages[at(stage)].mesh)
                                            : std::vector<Layout>{Layout{}};
    if (index == static_cast<int>(chunk.layers.size())) {
      if (stage + 1 == plan.num_stages()) {
        // Folded: the other chunks of the last stage send what its head receives.
        chunk.output_layout = chunks > 1 ? chunk.layers.back().input_layout : Layout{};
        choose_boundary(plan, stage + 1, 0, chunks);
        return;
      }
      for (const Layout& layout : layouts) {
        chunk.output_layout = layout;
        choose_boundary(plan, stage + 1, 0, chunks);
      }
      return;
    }
    if (chunk.first_layer + index == 0) {
      chunk.layers[0].input_layout = Layout{};
      choose_boundary(plan, stage, 1, chunks);
      return;
    }
    for (const Layout& layout : layouts) {
      chunk.layers[at(index)].input_layout = layout;
      choose_boundary(plan, stage, index + 1, chunks);
    }
  }

  void choose_option(Plan& plan, int stage, int index, int chunks) {
    if (gave_up()) {
      return;
    }
    if (stage == plan.num_stages()) {
      judge(plan, chunks);
      return;
    }
    ChunkPlan& chunk = plan.stages[at(stage)].chunks[0];
    if (index == static_cast<int>(chunk.layers.size())) {
      choose_option(plan, stage + 1, 0, chunks);
      return;
    }
    const bool ends = index + 1 == static_cast<int>(chunk.layers.size());
    const Layout out = ends ? chunk.output_layout : chunk.layers[at(index + 1)].input_layout;
    const LayerPlan kept = chunk.layers[at(index)];
    const int layer = layer_of(chunk.first_layer + index, chunks);
    for (const LayerPlan& option : options(layer, plan.stages[at(stage)], kept.input_layout, out)) {
      chunk.layers[at(index)] = option;
      choose_option(plan, stage, index + 1, chunks);
    }
    chunk.layers[at(index)] = kept;
  }

  // Options of a layer that differ in price or in what a tie sees of them.
  const std::vector<LayerPlan>& options(int layer,
                                        const StagePlan& stage,
                                        const Layout& in,
                                        const Layout& out) {
    const auto key = std::make_tuple(layer, stage.mesh, stage.devices, in, out);
    const auto [entry, is_new] = options_.try_emplace(key);
    std::vector<LayerPlan>& found = entry->second;
    if (!is_new) {
      return found;
    }
    const internal::Surroundings around = internal::surroundings_of(cluster_, stage);
    std::set<std::vector<std::int64_t>> seen;
    LayerPlan plan;
    plan.input_layout = in;
    const Block& block = graph_.block_of(layer);
    const std::function<void(int)> choose = [&](int o) {
      if (o == static_cast<int>(block.ops.size())) {
        for (int sharding = 0; sharding < 4; ++sharding) {
          for (int recompute = 0; recompute < 3; ++recompute) {
            plan.state_sharding = static_cast<StateSharding>(sharding);
            plan.recompute = static_cast<Recompute>(recompute);
            if (allowed(request_.limits.state_shardings, plan.state_sharding) &&
                allowed(request_.limits.recomputes, plan.recompute) &&
                is_valid(layer, stage, plan, out) &&
                seen.insert(fingerprint(layer, stage.mesh, plan, out, around)).second) {
              found.push_back(plan);
            }
          }
        }
        return;
      }
      const Op& op = block.ops[at(o)];
      for (int a = -1; a < static_cast<int>(op.axes.size()); ++a) {
        for (int b = -1; b < static_cast<int>(op.axes.size()); ++b) {
          for (const char* name : {"b", "xb", ""}) {
            const int data = stage.mesh.sizes[0] > 1 ? axis_index(op, name) : -1;
            if ((stage.mesh.sizes[0] > 1) == (data < 0) ||
                (stage.mesh.sizes[0] == 1 && *name != '\0')) {
              continue;
            }
            const AxisAssignment assignment{static_cast<std::int8_t>(data),
                                            static_cast<std::int8_t>(a),
                                            static_cast<std::int8_t>(b)};
            if (is_valid_assignment(op, assignment, stage.mesh)) {
              plan.op_axes.push_back(assignment);
              choose(o + 1);
              plan.op_axes.pop_back();
            }
          }
        }
      }
    };
    choose(0);
    return entry->second;
  }

  // Padded shards cannot be converted: let plan_violations decide on a plan of this layer alone.
  bool is_valid(int layer, const StagePlan& stage, const LayerPlan& layer_plan, const Layout& out) {
    Graph alone;
    alone.microbatch = graph_.microbatch;
    alone.sequence = graph_.sequence;
    alone.blocks = {graph_.block_of(layer)};
    alone.layers = {{"alone", "", 0}};
    Plan plan;
    plan.batch = graph_.microbatch;
    plan.sequence = graph_.sequence;
    StagePlan only = stage;
    ChunkPlan chunk;
    chunk.layers = {layer_plan};
    chunk.output_layout = out;
    only.chunks = {chunk};
    plan.stages = {only};
    return plan_violations(plan, alone).empty();
  }

  std::vector<std::int64_t> fingerprint(int layer,
                                        const Mesh& mesh,
                                        const LayerPlan& plan,
                                        const Layout& out,
                                        const internal::Surroundings& around) const {
    const Block& block = graph_.block_of(layer);
    const internal::LayerPrice p =
        internal::price_layer(block, plan, out, request_.precision, around, {}, costs_);
    std::vector<std::int64_t> values = {
        (p.forward + p.forward_collectives + p.forward_gather).count,
        (p.recompute + p.backward + p.backward_collectives + p.backward_state).count,
        (p.exposed_reduction + p.optimizer + p.parameter_gather).count,
        (p.weights + p.gradients + p.optimizer_state).count,
        p.saved.count,
        p.transient.count,
        p.saves_input ? 1 : 0,
        p.saves_output ? 1 : 0,
        tag ? tag(graph_, layer, mesh, plan) : 0};
    for (const TiedParameter& tied : graph_.tied) {
      for (const ParameterPlace& place : {owner_of(graph_, tied), alias_of(graph_, tied)}) {
        if (place.layer == layer) {
          values.push_back(static_cast<std::int64_t>(plan.state_sharding));
          for (const std::int8_t axis : plan.op_axes[at(place.op)]) {
            values.push_back(axis);
          }
        }
      }
    }
    return values;
  }

  void judge(const Plan& folded, int chunks) {
    ++plans_;
    const Plan plan = unfolded(folded, chunks);
    if (accepts && !accepts(plan, graph_)) {
      return;
    }
    const Evaluation evaluation = evaluator_->evaluate(plan);
    if (evaluation.fits() && (!best_ || evaluation.step_time < *best_)) {
      best_ = evaluation.step_time;
      best_plan_ = plan;
    }
  }

  Plan unfolded(const Plan& folded, int chunks) const {
    Plan plan = folded;
    if (chunks > 1) {
      for (int s = 0; s < plan.num_stages(); ++s) {
        StagePlan& stage = plan.stages[at(s)];
        ChunkPlan run = stage.chunks[0];
        const bool is_first = s == 0;
        const bool is_last = s + 1 == plan.num_stages();
        std::vector<LayerPlan> decoders(run.layers.begin() + (is_first ? 1 : 0),
                                        run.layers.end() - (is_last ? 1 : 0));
        stage.chunks.clear();
        for (int c = 0; c < chunks; ++c) {
          ChunkPlan chunk;
          chunk.layers = decoders;
          chunk.output_layout = run.output_layout;
          if (is_first && c == 0) {
            chunk.layers.insert(chunk.layers.begin(), run.layers.front());
          }
          if (is_last && c + 1 == chunks) {
            chunk.layers.push_back(run.layers.back());
            chunk.output_layout = Layout{};
          }
          stage.chunks.push_back(chunk);
        }
      }
      int layer = 0;
      for (int c = 0; c < chunks; ++c) {
        for (StagePlan& stage : plan.stages) {
          stage.chunks[at(c)].first_layer = layer;
          layer += static_cast<int>(stage.chunks[at(c)].layers.size());
        }
      }
    }
    return plan;
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  Graph graph_;
  std::unique_ptr<Evaluator> evaluator_;
  std::map<std::tuple<int, Mesh, std::vector<int>, Layout, Layout>, std::vector<LayerPlan>>
      options_;
  std::optional<Picoseconds> best_;
  std::optional<Plan> best_plan_;
  std::int64_t plans_ = 0;
};

}  // namespace shardwise::testing
