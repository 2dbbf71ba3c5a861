#include "io/plan_json.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/text.h"

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMostDevices = 1 << 20;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

Json layout_to_json(const Layout& layout) {
  Json json = Json::array();
  for (const AxisLayout& axis : layout) {
    json.push_back(axis.kind == AxisLayout::Kind::kShard ? fmt::format("shard {}", axis.dim)
                                                         : "replicate");
  }
  return json;
}

Json op_axes_to_json(const Block& block, const LayerPlan& layer) {
  Json json = Json::object();
  for (std::size_t o = 0; o < block.ops.size(); ++o) {
    Json axes = Json::array();
    for (const std::int8_t axis : layer.op_axes[o]) {
      axes.push_back(axis == kUnassigned ? "-" : block.ops[o].axes[at(axis)].name);
    }
    json[block.ops[o].name] = std::move(axes);
  }
  return json;
}

// Layers of a chunk; neighbours of the same block with the same plan share one entry.
Json layers_to_json(const ChunkPlan& chunk, const Graph& graph) {
  Json json = Json::array();
  for (std::size_t i = 0; i < chunk.layers.size();) {
    const int layer = chunk.first_layer + static_cast<int>(i);
    std::size_t end = i + 1;
    while (end < chunk.layers.size() && chunk.layers[end] == chunk.layers[i] &&
           graph.layers[at(chunk.first_layer) + end].block == graph.layers[at(layer)].block) {
      ++end;
    }
    json.push_back({{"first", graph.layers[at(layer)].name},
                    {"count", end - i},
                    {"state_sharding", to_string(chunk.layers[i].state_sharding)},
                    {"recompute", to_string(chunk.layers[i].recompute)},
                    {"input_layout", layout_to_json(chunk.layers[i].input_layout)},
                    {"op_axes", op_axes_to_json(graph.block_of(layer), chunk.layers[i])}});
    i = end;
  }
  return json;
}

// The value of an enumeration by its name.
template <typename Enums>
auto named(const JsonValue& value, const Enums& all) {
  std::vector<std::string> names;
  for (const auto candidate : all) {
    if (value.as_string() == to_string(candidate)) {
      return candidate;
    }
    names.push_back(to_string(candidate));
  }
  throw value.unexpected("one of " + join(names, ", "));
}

std::vector<Schedule> schedules() {
  std::vector<Schedule> all;
  for (const ScheduleTraits& traits : all_schedules()) {
    all.push_back(traits.schedule);
  }
  return all;
}

AxisLayout axis_layout_from_json(const JsonValue& value) {
  const std::string& text = value.as_string();
  for (int dim = 0; dim < 8; ++dim) {
    if (text == fmt::format("shard {}", dim)) {
      return AxisLayout::shard(dim);
    }
  }
  if (text != "replicate") {
    throw value.unexpected("\"replicate\" or \"shard N\" (N = a dimension)");
  }
  return AxisLayout::replicate();
}

std::vector<JsonValue> three_items(const JsonValue& value) {
  std::vector<JsonValue> items = value.items();
  if (items.size() != kMeshAxes) {
    throw value.unexpected(fmt::format("{} entries, one for each mesh axis", kMeshAxes));
  }
  return items;
}

Layout layout_from_json(const JsonValue& value) {
  const std::vector<JsonValue> items = three_items(value);
  Layout layout{};
  for (std::size_t m = 0; m < layout.size(); ++m) {
    layout[m] = axis_layout_from_json(items[m]);
  }
  return layout;
}

AxisAssignment assignment_from_json(const JsonValue& value, const Op& op) {
  const std::vector<JsonValue> items = three_items(value);
  AxisAssignment assignment{};
  for (std::size_t m = 0; m < assignment.size(); ++m) {
    const std::string& name = items[m].as_string();
    const int axis = name == "-" ? kUnassigned : axis_index(op, name);
    if (name != "-" && axis < 0) {
      std::vector<std::string> names;
      for (const LoopAxis& loop : op.axes) {
        names.push_back(loop.name);
      }
      throw items[m].unexpected("an axis of op " + op.name + " (" + join(names, ", ") +
                                ") or \"-\"");
    }
    assignment[m] = static_cast<std::int8_t>(axis);
  }
  return assignment;
}

void add_layers(const JsonValue& value, const Graph& graph, ChunkPlan& chunk) {
  value.reject_unknown_keys(
      {"first", "count", "state_sharding", "recompute", "input_layout", "op_axes"});
  const int first = chunk.end_layer();
  const auto num_layers = static_cast<int>(graph.layers.size());
  if (first >= num_layers) {
    throw value.error(fmt::format("expected no more than the model's {} layers", num_layers));
  }
  const int count = value.at("count").as_int(1, num_layers - first);
  if (value.at("first").as_string() != graph.layers[at(first)].name) {
    throw value.at("first").unexpected("\"" + graph.layers[at(first)].name +
                                       "\", the next layer of the model");
  }
  const Block& block = graph.block_of(first);
  LayerPlan layer;
  layer.state_sharding = named(value.at("state_sharding"),
                               std::array{StateSharding::kNone,
                                          StateSharding::kOptimizer,
                                          StateSharding::kGradients,
                                          StateSharding::kParameters});
  layer.recompute = named(value.at("recompute"),
                          std::array{Recompute::kNone, Recompute::kSelective, Recompute::kFull});
  layer.input_layout = layout_from_json(value.at("input_layout"));
  const JsonValue op_axes = value.at("op_axes");
  for (const Op& op : block.ops) {
    layer.op_axes.push_back(assignment_from_json(op_axes.at(op.name), op));
  }
  for (const auto& [name, axes] : op_axes.members()) {
    const auto is_called = [&name = name](const Op& op) { return op.name == name; };
    if (std::none_of(block.ops.begin(), block.ops.end(), is_called)) {
      throw axes.error("block " + block.name + " has no op of this name");
    }
  }
  for (int i = 0; i < count; ++i) {
    if (graph.layers[at(first + i)].block != graph.layers[at(first)].block) {
      throw value.at("count").error("the run ends before " + graph.layers[at(first + i)].name +
                                    ", which is another kind of layer");
    }
    chunk.layers.push_back(layer);
  }
}

ChunkPlan chunk_from_json(const JsonValue& value, const Graph& graph) {
  value.reject_unknown_keys({"first_layer", "output_layout", "layers"});
  ChunkPlan chunk;
  chunk.first_layer = value.at("first_layer").as_int(0, static_cast<int>(graph.layers.size()) - 1);
  chunk.output_layout = layout_from_json(value.at("output_layout"));
  for (const JsonValue& layers : value.at("layers").items()) {
    add_layers(layers, graph, chunk);
  }
  return chunk;
}

StagePlan stage_from_json(const JsonValue& value, const Graph& graph) {
  value.reject_unknown_keys({"devices", "mesh", "chunks"});
  StagePlan stage;
  for (const JsonValue& device : value.at("devices").items()) {
    stage.devices.push_back(device.as_int(0, kMostDevices));
  }
  const std::vector<JsonValue> sizes = three_items(value.at("mesh"));
  std::int64_t devices = 1;
  for (std::size_t m = 0; m < sizes.size(); ++m) {
    stage.mesh.sizes[m] = sizes[m].as_int(1, kMostDevices);
    devices *= stage.mesh.sizes[m];
    if (devices > kMostDevices) {
      throw sizes[m].error(fmt::format("expected a mesh of at most {} devices", kMostDevices));
    }
  }
  for (const JsonValue& chunk : value.at("chunks").items()) {
    stage.chunks.push_back(chunk_from_json(chunk, graph));
  }
  return stage;
}

}  // namespace

Json plan_to_json(const Plan& plan, const Graph& graph) {
  Json stages = Json::array();
  for (const StagePlan& stage : plan.stages) {
    Json chunks = Json::array();
    for (const ChunkPlan& chunk : stage.chunks) {
      chunks.push_back({{"first_layer", chunk.first_layer},
                        {"output_layout", layout_to_json(chunk.output_layout)},
                        {"layers", layers_to_json(chunk, graph)}});
    }
    stages.push_back(
        {{"devices", stage.devices}, {"mesh", stage.mesh.sizes}, {"chunks", std::move(chunks)}});
  }
  return {{"batch", plan.batch},
          {"sequence", plan.sequence},
          {"num_microbatches", plan.num_microbatches},
          {"schedule", to_string(plan.schedule)},
          {"precision", to_string(plan.precision)},
          {"context_chunks", plan.context_chunks},
          {"stages", std::move(stages)}};
}

PlanShape plan_shape_from_json(const JsonValue& value) {
  const std::int64_t batch = value.at("batch").as_int64(1, std::int64_t{1} << 40);
  const JsonValue microbatches = value.at("num_microbatches");
  const int count = microbatches.as_int(1);
  if (batch % count != 0) {
    throw microbatches.unexpected(fmt::format("a divisor of the batch of {} sequences", batch));
  }
  return {batch / count, value.at("sequence").as_int64(1, std::int64_t{1} << 32)};
}

Plan plan_from_json(const JsonValue& value, const Graph& graph) {
  value.reject_unknown_keys({"batch",
                             "sequence",
                             "num_microbatches",
                             "schedule",
                             "precision",
                             "context_chunks",
                             "stages"});
  const PlanShape shape = plan_shape_from_json(value);
  Plan plan;
  plan.batch = value.at("batch").as_int64();
  plan.sequence = shape.sequence;
  plan.num_microbatches = value.at("num_microbatches").as_int();
  plan.schedule = named(value.at("schedule"), schedules());
  plan.precision =
      named(value.at("precision"), std::array{Precision::kFloat32, Precision::kBFloat16});
  plan.context_chunks = value.at("context_chunks").as_int(1, kMostDevices);
  for (const JsonValue& stage : value.at("stages").items()) {
    plan.stages.push_back(stage_from_json(stage, graph));
  }
  const std::vector<std::string> violations = plan_violations(plan, graph);
  if (!violations.empty()) {
    throw value.error("the plan does not fit its model: " + violations.front());
  }
  return plan;
}

}  // namespace shardwise
