#include "graph/plan.h"

#include <algorithm>
#include <optional>
#include <set>

#include "core/errors.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::string layer_name(const Graph& graph, int layer) {
  return "layer " + std::to_string(layer) + " (" + graph.layers[at(layer)].name + ")";
}

bool is_whole(const Layout& layout) {
  return std::none_of(layout.begin(), layout.end(), [](const AxisLayout& axis) {
    return axis.kind == AxisLayout::Kind::kPartial;
  });
}

// Collects sentences; each check_ function adds those of its concern.
class PlanCheck {
 public:
  PlanCheck(const Plan& plan, const Graph& graph) : plan_(plan), graph_(graph) {}

  std::vector<std::string> violations() {
    check_batch();
    check_stages();
    if (violations_.empty()) {
      check_coverage();
    }
    if (violations_.empty()) {
      for (int layer = 0; layer < static_cast<int>(graph_.layers.size()); ++layer) {
        check_layer(layer);
      }
    }
    return std::move(violations_);
  }

 private:
  void add(const std::string& sentence) { violations_.push_back(sentence); }

  void check_batch() {
    if (plan_.batch < 1 || plan_.num_microbatches < 1 ||
        plan_.batch % plan_.num_microbatches != 0) {
      add(std::to_string(plan_.num_microbatches) + " micro-batches do not divide the batch of " +
          std::to_string(plan_.batch) + " sequences");
    } else if (graph_.microbatch != plan_.microbatch() || graph_.sequence != plan_.sequence) {
      add("the graph is for micro-batches of " + std::to_string(graph_.microbatch) + " x " +
          std::to_string(graph_.sequence) + " tokens, the plan for " +
          std::to_string(plan_.microbatch()) + " x " + std::to_string(plan_.sequence));
    }
    if (plan_.context_chunks < 1 ||
        (plan_.context_chunks > 1 &&
         plan_.sequence % (std::int64_t{2} * plan_.context_chunks) != 0)) {
      add("2 x " + std::to_string(plan_.context_chunks) + " context chunks do not divide " +
          std::to_string(plan_.sequence) + " tokens");
    }
  }

  void check_stages() {
    if (plan_.stages.empty()) {
      add("the plan has no stage");
      return;
    }
    std::set<int> used;
    for (int s = 0; s < plan_.num_stages(); ++s) {
      const StagePlan& stage = plan_.stages[at(s)];
      const std::string name = "stage " + std::to_string(s);
      for (const int size : stage.mesh.sizes) {
        if (size < 1) {
          add(name + ": a mesh axis has size " + std::to_string(size));
          return;
        }
      }
      if (stage.mesh.devices() != static_cast<int>(stage.devices.size())) {
        add(name + ": mesh " + to_string(stage.mesh) + " has " +
            std::to_string(stage.mesh.devices()) + " devices, the stage lists " +
            std::to_string(stage.devices.size()));
      }
      for (const int device : stage.devices) {
        if (device < 0 || !used.insert(device).second) {
          add(name + ": device " + std::to_string(device) + " is used twice or negative");
        }
      }
      if (stage.chunks.empty() || stage.chunks.size() != plan_.stages[0].chunks.size()) {
        add(name + ": every stage needs the same number of chunks, at least one");
      }
    }
    check_chunks();
    if (plan_.schedule == Schedule::kInterleaved &&
        plan_.num_microbatches % plan_.num_stages() != 0) {
      add("the interleaved schedule needs a multiple of " + std::to_string(plan_.num_stages()) +
          " micro-batches, not " + std::to_string(plan_.num_microbatches));
    }
  }

  void check_chunks() {
    const ScheduleTraits& traits = traits_of(plan_.schedule);
    const int chunks = plan_.num_chunks();
    if (traits.chunks == ScheduleTraits::Chunks::kOne && chunks > 1) {
      add("the " + std::string(traits.name) + " schedule has one chunk a stage, not " +
          std::to_string(chunks));
    }
    if (traits.chunks == ScheduleTraits::Chunks::kTwo && chunks != 2) {
      add("the " + std::string(traits.name) + " schedule has two chunks a stage, not " +
          std::to_string(chunks));
    }
    if (plan_.schedule == Schedule::kDualPipeV && plan_.num_microbatches < 2 * plan_.num_stages()) {
      add("the dualpipe-v schedule needs at least " + std::to_string(2 * plan_.num_stages()) +
          " micro-batches, not " + std::to_string(plan_.num_microbatches));
    }
  }

  void check_coverage() {
    int next = 0;
    for (int k = 0; k < plan_.num_chunks() * plan_.num_stages(); ++k) {
      const VirtualStage place = virtual_stage(plan_, k);
      const ChunkPlan& chunk = plan_.stages[at(place.stage)].chunks[at(place.chunk)];
      if (chunk.layers.empty() || chunk.first_layer != next) {
        add("stage " + std::to_string(place.stage) + " chunk " + std::to_string(place.chunk) +
            ": expected one or more layers from layer " + std::to_string(next) + ", found " +
            std::to_string(chunk.layers.size()) + " from layer " +
            std::to_string(chunk.first_layer));
        return;
      }
      next = chunk.end_layer();
    }
    if (next != static_cast<int>(graph_.layers.size())) {
      add("the plan covers " + std::to_string(next) + " layers, the model has " +
          std::to_string(graph_.layers.size()));
    }
  }

  void check_layer(int layer) {
    const LayerPlace place = place_of(plan_, layer);
    const StagePlan& stage = plan_.stages[at(place.stage)];
    const ChunkPlan& chunk = stage.chunks[at(place.chunk)];
    const LayerPlan& layer_plan = chunk.layers[at(place.index)];
    const Block& block = graph_.block_of(layer);
    const bool is_last_of_chunk = place.index + 1 == static_cast<int>(chunk.layers.size());
    const Layout out =
        is_last_of_chunk ? chunk.output_layout : chunk.layers[at(place.index + 1)].input_layout;
    // Most layers are like the one before.
    const Checked here{&block, stage.mesh, &layer_plan, out};
    if (last_good_ && here.is_like(*last_good_)) {
      return;
    }
    const std::string name =
        "stage " + std::to_string(place.stage) + ", " + layer_name(graph_, layer);
    if (layer_plan.op_axes.size() != block.ops.size()) {
      add(name + ": " + std::to_string(layer_plan.op_axes.size()) + " assignments for " +
          std::to_string(block.ops.size()) + " ops");
      return;
    }
    bool ops_are_valid = true;
    for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
      ops_are_valid &= check_op(block.ops[at(o)], layer_plan.op_axes[at(o)], stage.mesh, name);
    }
    bool layouts_are_valid = true;
    if (!block.inputs.empty()) {
      layouts_are_valid &= check_boundary(
          block, block.inputs[0], layer_plan.input_layout, stage.mesh, name + ": input layout");
    }
    if (!block.outputs.empty()) {
      layouts_are_valid &=
          check_boundary(block, block.outputs[0], out, stage.mesh, name + ": output layout");
    }
    if (ops_are_valid && layouts_are_valid) {
      const std::size_t known = violations_.size();
      check_conversions(block, layer_plan, stage.mesh, out, name);
      if (violations_.size() == known) {
        last_good_ = here;
      }
    }
  }

  bool check_op(const Op& op,
                const AxisAssignment& assignment,
                const Mesh& mesh,
                const std::string& name) {
    if (!is_valid_assignment(op, assignment, mesh)) {
      add(name + ", op " + op.name + ": assignment " + describe(op, assignment) +
          " does not fit its axes on mesh " + to_string(mesh));
      return false;
    }
    if (mesh.sizes[kDataAxis] > 1) {
      const int axis = assignment[kDataAxis];
      const std::string axis_name = axis == kUnassigned ? "nothing" : op.axes[at(axis)].name;
      if (axis_name != "b" && axis_name != "xb") {
        add(name + ", op " + op.name + ": the data axis shards " + axis_name +
            ", expected b (experts: b or xb)");
        return false;
      }
    }
    return true;
  }

  static std::string describe(const Op& op, const AxisAssignment& assignment) {
    std::string text;
    for (const std::int8_t axis : assignment) {
      text += text.empty() ? "(" : ", ";
      const bool known = axis >= 0 && axis < static_cast<int>(op.axes.size());
      text += known ? op.axes[at(axis)].name : axis == kUnassigned ? "-" : "?";
    }
    return text + ")";
  }

  bool check_boundary(const Block& block,
                      TensorIndex tensor,
                      const Layout& layout,
                      const Mesh& mesh,
                      const std::string& name) {
    const std::vector<std::int64_t>& shape = block.tensors[at(tensor)].shape;
    for (int m = 0; m < kMeshAxes; ++m) {
      const AxisLayout& axis = layout[at(m)];
      const bool in_range = axis.kind != AxisLayout::Kind::kShard ||
                            (axis.dim >= 0 && axis.dim < static_cast<int>(shape.size()));
      if (!in_range || (mesh.sizes[at(m)] == 1 && axis != AxisLayout::replicate())) {
        add(name + " " + to_string(layout) + " does not fit mesh " + to_string(mesh));
        return false;
      }
    }
    if (!is_whole(layout)) {
      add(name + " " + to_string(layout) + " is partial");
      return false;
    }
    if (!is_convertible(shape, layout, Layout{}, mesh)) {
      add(name + " " + to_string(layout) + " does not divide the hidden state");
      return false;
    }
    return true;
  }

  // Padded shards cannot change their layout.
  void check_conversions(const Block& block,
                         const LayerPlan& layer_plan,
                         const Mesh& mesh,
                         const Layout& out,
                         const std::string& name) {
    for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
      const Op& op = block.ops[at(o)];
      for (const Operand& output : op.outputs) {
        const std::vector<std::int64_t>& shape = block.tensors[at(output.tensor)].shape;
        const Layout from = output_layout(op, output, layer_plan.op_axes[at(o)], mesh);
        for (const auto& [user, input] : uses_of(block, output.tensor)) {
          const Op& use = block.ops[at(user)];
          const Layout to =
              input_layout(use, use.inputs[at(input)], layer_plan.op_axes[at(user)], mesh);
          if (!is_convertible(shape, from, to, mesh)) {
            add(name + ": " + block.tensors[at(output.tensor)].name + " cannot go from " +
                to_string(from) + " (op " + op.name + ") to " + to_string(to) + " (op " + use.name +
                "): the shards are padded");
          }
        }
        const bool leaves = std::find(block.outputs.begin(), block.outputs.end(), output.tensor) !=
                            block.outputs.end();
        if (leaves && !is_convertible(shape, from, out, mesh)) {
          add(name + ": its output cannot go from " + to_string(from) + " to " + to_string(out));
        }
      }
    }
  }

  // All that the check of a layer depends on.
  struct Checked {
    const Block* block = nullptr;
    Mesh mesh;
    const LayerPlan* plan = nullptr;
    Layout out{};

    bool is_like(const Checked& other) const {
      return block == other.block && mesh == other.mesh && out == other.out && *plan == *other.plan;
    }
  };

  const Plan& plan_;
  const Graph& graph_;
  std::vector<std::string> violations_;
  std::optional<Checked> last_good_;
};

}  // namespace

std::span<const ScheduleTraits> all_schedules() {
  using Chunks = ScheduleTraits::Chunks;
  constexpr auto kLooped = ScheduleTraits::Placement::kLooped;
  constexpr auto kVShaped = ScheduleTraits::Placement::kVShaped;
  static constexpr ScheduleTraits kAll[] = {
      {Schedule::kGpipe, "gpipe", Chunks::kOne, kLooped, false, true},
      {Schedule::k1F1B, "1f1b", Chunks::kOne, kLooped, false, true},
      {Schedule::k1F1BEager, "1f1b-eager", Chunks::kOne, kLooped, false, true},
      {Schedule::kInterleaved, "interleaved", Chunks::kAny, kLooped, false, true},
      {Schedule::kZeroBubbleH1, "zb-h1", Chunks::kOne, kLooped, true, false},
      {Schedule::kZeroBubbleH2, "zb-h2", Chunks::kOne, kLooped, true, false},
      {Schedule::kZeroBubble1P, "zb-1p", Chunks::kOne, kLooped, true, false},
      {Schedule::kZeroBubble2P, "zb-2p", Chunks::kOne, kLooped, true, false},
      {Schedule::kZeroBubbleV, "zb-v", Chunks::kTwo, kVShaped, true, false},
      {Schedule::kVHalf, "v-half", Chunks::kTwo, kVShaped, true, false},
      {Schedule::kVMin, "v-min", Chunks::kTwo, kVShaped, true, false},
      {Schedule::kDualPipeV, "dualpipe-v", Chunks::kTwo, kVShaped, true, false},
  };
  return kAll;
}

const ScheduleTraits& traits_of(Schedule schedule) {
  for (const ScheduleTraits& traits : all_schedules()) {
    if (traits.schedule == schedule) {
      return traits;
    }
  }
  SHARDWISE_CHECK(false, "unknown schedule");
}

VirtualStage virtual_stage(const Plan& plan, int k) {
  const int stages = plan.num_stages();
  const bool turns = traits_of(plan.schedule).placement == ScheduleTraits::Placement::kVShaped;
  const int along = k % stages;
  return {turns && k >= stages ? stages - 1 - along : along, k / stages};
}

int virtual_stage_index(const Plan& plan, const VirtualStage& place) {
  const int stages = plan.num_stages();
  const bool turns = traits_of(plan.schedule).placement == ScheduleTraits::Placement::kVShaped;
  return place.chunk * stages + (turns && place.chunk > 0 ? stages - 1 - place.stage : place.stage);
}

LayerPlace place_of(const Plan& plan, int layer) {
  for (int s = 0; s < plan.num_stages(); ++s) {
    const StagePlan& stage = plan.stages[at(s)];
    for (int c = 0; c < static_cast<int>(stage.chunks.size()); ++c) {
      const ChunkPlan& chunk = stage.chunks[at(c)];
      if (layer >= chunk.first_layer && layer < chunk.end_layer()) {
        return {s, c, layer - chunk.first_layer};
      }
    }
  }
  SHARDWISE_CHECK(false, "layer " + std::to_string(layer) + " is in no stage");
}

const LayerPlan& layer_plan(const Plan& plan, const LayerPlace& place) {
  return plan.stages[at(place.stage)].chunks[at(place.chunk)].layers[at(place.index)];
}

ParameterPlacement parameter_placement(const Op& op,
                                       const Operand& parameter,
                                       const AxisAssignment& assignment,
                                       const Mesh& mesh) {
  ParameterPlacement placement;
  placement.layout = input_layout(op, parameter, assignment, mesh);
  placement.gradient = gradient_layout(op, parameter, assignment, mesh);
  for (int m = 0; m < kMeshAxes; ++m) {
    if (placement.gradient[at(m)].kind == AxisLayout::Kind::kPartial) {
      placement.reduction_degree *= mesh.sizes[at(m)];
    }
  }
  return placement;
}

std::vector<std::string> plan_violations(const Plan& plan, const Graph& graph) {
  return PlanCheck(plan, graph).violations();
}

std::string to_string(StateSharding value) {
  constexpr const char* kNames[] = {"none", "optimizer", "gradients", "parameters"};
  return kNames[static_cast<int>(value)];
}

std::string to_string(Recompute value) {
  constexpr const char* kNames[] = {"none", "selective", "full"};
  return kNames[static_cast<int>(value)];
}

std::string to_string(Schedule value) { return traits_of(value).name; }

std::string to_string(Precision value) {
  constexpr const char* kNames[] = {"fp32", "bf16"};
  return kNames[static_cast<int>(value)];
}

}  // namespace shardwise
