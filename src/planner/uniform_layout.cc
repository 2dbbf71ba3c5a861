#include "planner/uniform_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <set>

#include "core/errors.h"
#include "core/text.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// --- text ---------------------------------------------------------------------------------------

const std::vector<std::string> kKeys = {
    "tp", "pp", "dp", "cp", "ep", "vp", "zero", "sp", "micro", "recompute", "schedule", "layers"};

// A value of one key, with the place for messages.
struct Setting {
  std::string where;
  std::string key;
  std::string value;

  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("{}: key '{}'", where, key), what);
  }

  std::int64_t number(std::int64_t least, std::int64_t most) const {
    return number_in(value, least, most);
  }

  std::int64_t number_in(const std::string& text, std::int64_t least, std::int64_t most) const {
    std::int64_t result = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    if (error != std::errc() || end != text.data() + text.size() || result < least ||
        result > most) {
      fail(fmt::format("expected a whole number from {} to {}, such as {}={}, got \"{}\"",
                       least,
                       most,
                       key,
                       least,
                       text));
    }
    return result;
  }

  template <typename Value, std::size_t count>
  Value one_of(const std::array<Value, count>& values) const {
    std::vector<std::string> names;
    for (const Value candidate : values) {
      names.push_back(to_string(candidate));
      if (names.back() == value) {
        return candidate;
      }
    }
    fail(fmt::format(
        "expected one of {}, got \"{}\"{}", join(names, ", "), value, suggest(value, names)));
  }
};

constexpr std::int64_t kMostRanks = 1 << 20;
constexpr std::array kRecomputeKinds = {Recompute::kNone, Recompute::kSelective, Recompute::kFull};
constexpr std::array kSchedules = {
    Schedule::kGpipe, Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kInterleaved};

void apply(const Setting& setting, UniformLayout& layout) {
  const auto degree = [&setting] { return static_cast<int>(setting.number(1, kMostRanks)); };
  const std::string& key = setting.key;
  if (key == "tp") {
    layout.tensor = degree();
  } else if (key == "pp") {
    layout.pipeline = degree();
  } else if (key == "dp") {
    layout.data = degree();
  } else if (key == "cp") {
    layout.context = degree();
  } else if (key == "ep") {
    layout.expert = degree();
  } else if (key == "vp") {
    layout.chunks = degree();
  } else if (key == "zero") {
    layout.zero = static_cast<int>(setting.number(0, 3));
  } else if (key == "sp") {
    layout.sequence_parallel = setting.number(0, 1) == 1;
  } else if (key == "micro") {
    layout.micro = setting.number(1, std::int64_t{1} << 40);
  } else if (key == "recompute") {
    layout.recompute = setting.one_of(kRecomputeKinds);
  } else if (key == "schedule") {
    layout.schedule = setting.one_of(kSchedules);
  } else {
    layout.layers.clear();
    for (const std::string& part : split(setting.value, ',')) {
      layout.layers.push_back(static_cast<int>(setting.number_in(part, 0, kMostRanks)));
    }
  }
}

// Keeps products of degrees far from overflow.
void check_size(const UniformLayout& layout, const std::string& where) {
  std::int64_t product = 1;
  for (const int degree :
       {layout.tensor, layout.pipeline, layout.data, layout.context, layout.chunks}) {
    product *= degree;
    if (product > kMostRanks) {
      throw InputError(
          where,
          fmt::format("tp x pp x dp x cp x vp is more than {}; use smaller degrees", kMostRanks));
    }
  }
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    if (c != ' ' && c != '\t' && c != '\n') {
      word.push_back(c);
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

// --- plan ---------------------------------------------------------------------------------------

// What a mesh axis does in every layer.
enum class AxisRole {
  kData,
  kContext,
  kTensor,         // key/value heads, features, vocabulary
  kTensorQueries,  // the same, but the queries of each key/value head instead of heads
};

struct Heads {
  std::int64_t groups = 1;   // key/value heads
  std::int64_t queries = 1;  // for each
};

std::int64_t size_of_axis(const Op& op, const std::string& name) {
  const int axis = axis_index(op, name);
  return axis < 0 ? 1 : op.axes[at(axis)].size;
}

std::optional<Heads> heads_of(const Graph& graph) {
  for (const Block& block : graph.blocks) {
    for (const Op& op : block.ops) {
      if (is_sequence_attention(op.kind)) {
        return Heads{size_of_axis(op, "n"), size_of_axis(op, "r")};
      }
    }
  }
  return std::nullopt;
}

bool has_experts(const Graph& graph) {
  return std::any_of(graph.blocks.begin(), graph.blocks.end(), [](const Block& block) {
    return std::any_of(block.ops.begin(), block.ops.end(), [](const Op& op) {
      return op.kind == OpKind::kExperts;
    });
  });
}

// Part of a tensor degree that shards key/value heads; the rest shards their queries. The largest
// that fits; nothing if none does.
std::optional<int> head_part(int tensor, const Heads& heads) {
  for (int part = tensor; part >= 1; --part) {
    if (tensor % part == 0 && heads.groups % part == 0 && heads.queries % (tensor / part) == 0) {
      return part;
    }
  }
  return std::nullopt;
}

// "6 or 12": the nearest smaller and larger number for which `fits` holds.
template <typename Predicate>
std::string nearest(std::int64_t number, std::int64_t most, Predicate fits) {
  std::string text;
  for (std::int64_t below = std::min(number - 1, most); below >= 1; --below) {
    if (fits(below)) {
      text = std::to_string(below);
      break;
    }
  }
  for (std::int64_t above = number + 1; above <= most; ++above) {
    if (fits(above)) {
      text += (text.empty() ? "" : " or ") + std::to_string(above);
      break;
    }
  }
  return text;
}

std::string nearest_divisor(std::int64_t number, std::int64_t of) {
  return nearest(number, of, [of](std::int64_t candidate) { return of % candidate == 0; });
}

class UniformPlanner {
 public:
  UniformPlanner(const Graph& graph,
                 const UniformLayout& layout,
                 std::int64_t batch,
                 std::int64_t sequence,
                 int world,
                 const std::string& where)
      : graph_(graph),
        layout_(layout),
        batch_(batch),
        sequence_(sequence),
        world_(world),
        where_(where),
        experts_on_data_(layout.expert > 1 &&
                         (layout.expert == layout.data || layout.expert != layout.tensor)),
        experts_on_tensor_(layout.expert > 1 && layout.expert != layout.data) {}

  Plan plan(Precision precision) {
    check_degrees();
    check_batch();
    arrange_mesh();
    check_sequence();
    check_experts();
    check_features();
    Plan plan;
    plan.batch = batch_;
    plan.sequence = sequence_;
    plan.num_microbatches = static_cast<int>(batch_ / layout_.microbatch());
    plan.schedule = layout_.schedule;
    plan.precision = precision;
    plan.context_chunks = layout_.context;
    check_interleaving(plan.num_microbatches);
    find_op_axes();
    add_stages(plan);
    const std::vector<std::string> violations = plan_violations(plan, graph_);
    if (!violations.empty()) {
      fail(violations.front());
    }
    return plan;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw InputError(where_, what); }

  void check_degrees() const {
    const std::int64_t ranks = static_cast<std::int64_t>(layout_.tensor) * layout_.pipeline *
                               layout_.data * layout_.context;
    if (ranks != world_) {
      fail(fmt::format("tp {} x pp {} x dp {} x cp {} = {} ranks, the cluster has {}{}",
                       layout_.tensor,
                       layout_.pipeline,
                       layout_.data,
                       layout_.context,
                       ranks,
                       world_,
                       remedy_for_world(ranks)));
    }
    if (layout_.chunks > 1 && layout_.schedule != Schedule::kInterleaved) {
      fail(fmt::format("vp={} needs schedule=interleaved, found schedule={}",
                       layout_.chunks,
                       to_string(layout_.schedule)));
    }
  }

  std::string remedy_for_world(std::int64_t ranks) const {
    const std::int64_t others = ranks / layout_.data;
    return world_ % others == 0
               ? fmt::format("; dp={} would use them all", world_ / others)
               : fmt::format("; tp x pp x cp = {} must divide the number of ranks", others);
  }

  void check_batch() const {
    const std::int64_t slice = layout_.microbatch();
    if (batch_ < 1 || batch_ % slice != 0) {
      const std::int64_t below = batch_ / slice * slice;
      const std::string per_rank =
          batch_ > 0 && batch_ % layout_.data == 0
              ? fmt::format(", or micro={}", nearest_divisor(layout_.micro, batch_ / layout_.data))
              : "";
      fail(fmt::format(
          "micro {} x dp {} = {} sequences do not divide the batch of {}; nearest batch: {}{}{}",
          layout_.micro,
          layout_.data,
          slice,
          batch_,
          below > 0 ? fmt::format("{} or ", below) : "",
          below + slice,
          per_rank));
    }
    SHARDWISE_CHECK(graph_.microbatch == slice && graph_.sequence == sequence_,
                    "the graph is built for the layout's micro-batch");
  }

  // Which mesh axis does what: data, then context, then the parts of tensor.
  void arrange_mesh() {
    std::vector<std::pair<AxisRole, int>> free;
    if (layout_.context > 1) {
      free.emplace_back(AxisRole::kContext, layout_.context);
    }
    const std::optional<Heads> heads = heads_of(graph_);
    int on_heads = layout_.tensor;
    if (heads) {
      const std::optional<int> part = head_part(layout_.tensor, *heads);
      if (!part) {
        fail(fmt::format(
            "tp={} does not divide the attention heads ({} key/value heads with {} queries each); "
            "nearest degrees that do: {}",
            layout_.tensor,
            heads->groups,
            heads->queries,
            nearest(layout_.tensor, heads->groups * heads->queries, [&](std::int64_t degree) {
              return head_part(static_cast<int>(degree), *heads).has_value();
            })));
      }
      on_heads = *part;
    }
    if (on_heads > 1) {
      free.emplace_back(AxisRole::kTensor, on_heads);
    }
    if (layout_.tensor / on_heads > 1) {
      free.emplace_back(AxisRole::kTensorQueries, layout_.tensor / on_heads);
    }
    if (free.size() > 2) {
      fail(fmt::format(
          "cp={} and tp={} need three mesh axes besides data (context, {} key/value heads, {} "
          "queries of each), a plan has two; use tp={} or cp=1",
          layout_.context,
          layout_.tensor,
          on_heads,
          layout_.tensor / on_heads,
          on_heads));
    }
    roles_.emplace_back(AxisRole::kData);
    mesh_.sizes[kDataAxis] = layout_.data;
    for (const auto& [role, size] : free) {
      mesh_.sizes[roles_.size()] = size;
      roles_.push_back(role);
    }
  }

  void check_sequence() const {
    const std::int64_t chunks = 2 * static_cast<std::int64_t>(layout_.context);
    if (layout_.context > 1 && sequence_ % chunks != 0) {
      fail(fmt::format(
          "cp={} needs a sequence that 2 x {} divides (each rank takes an early and a late chunk), "
          "found {} tokens; nearest: {}",
          layout_.context,
          layout_.context,
          sequence_,
          nearest(sequence_, sequence_ + chunks, [chunks](std::int64_t tokens) {
            return tokens % chunks == 0;
          })));
    }
    const int shards = layout_.context * layout_.tensor;
    if (layout_.sequence_parallel && sequence_ % shards != 0) {
      fail(fmt::format(
          "sp=1 needs a sequence that cp x tp = {} divides, found {} tokens; use sp=0 or tp={}",
          shards,
          sequence_,
          nearest_divisor(layout_.tensor, sequence_ / layout_.context)));
    }
  }

  void check_experts() const {
    if (layout_.expert == 1) {
      return;
    }
    if (!has_experts(graph_)) {
      fail(
          fmt::format("ep={}, but {} has no experts; use ep=1", layout_.expert, graph_.model_type));
    }
    const int both = layout_.data * layout_.tensor;
    if (layout_.expert != layout_.data && layout_.expert != layout_.tensor &&
        layout_.expert != both) {
      fail(
          fmt::format("ep={} cannot be expressed: experts spread over the data ranks (ep={}), the "
                      "tensor ranks (ep={}) or both (ep={})",
                      layout_.expert,
                      layout_.data,
                      layout_.tensor,
                      both));
    }
    for (const Block& block : graph_.blocks) {
      for (const Op& op : block.ops) {
        const std::int64_t experts = size_of_axis(op, "e");
        if (op.kind == OpKind::kExperts && experts % layout_.expert != 0) {
          fail(fmt::format("ep={} does not divide the {} experts of {}; nearest that do: {}",
                           layout_.expert,
                           experts,
                           op.name,
                           nearest_divisor(layout_.expert, experts)));
        }
      }
    }
  }

  void check_features() const {
    for (const Block& block : graph_.blocks) {
      for (const Op& op : block.ops) {
        const int f = axis_index(op, "f");
        const bool is_cut = !(op.kind == OpKind::kExperts && experts_on_tensor_);
        if (f >= 0 && is_cut && op.axes[at(f)].size % layout_.tensor != 0) {
          fail(
              fmt::format("tp={} does not divide the feed-forward width {} of {}; nearest that "
                          "do: {}",
                          layout_.tensor,
                          op.axes[at(f)].size,
                          op.name,
                          nearest_divisor(layout_.tensor, op.axes[at(f)].size)));
        }
      }
    }
  }

  void check_interleaving(int microbatches) const {
    if (layout_.schedule == Schedule::kInterleaved && microbatches % layout_.pipeline != 0) {
      fail(fmt::format(
          "the interleaved schedule needs a multiple of pp={} micro-batches, found {} (batch {} / "
          "(micro {} x dp {})); nearest batch: {}",
          layout_.pipeline,
          microbatches,
          batch_,
          layout_.micro,
          layout_.data,
          nearest(batch_, batch_ + layout_.microbatch() * layout_.pipeline, [&](std::int64_t b) {
            return b % (layout_.microbatch() * layout_.pipeline) == 0;
          })));
    }
  }

  // Decoder layers of each virtual stage.
  std::vector<int> split_of_layers() const {
    const int decoder_layers = static_cast<int>(graph_.layers.size()) - 2;
    const int parts = layout_.pipeline * layout_.chunks;
    if (!layout_.layers.empty()) {
      check_split(parts, decoder_layers);
      return layout_.layers;
    }
    if (decoder_layers + 2 < parts) {
      fail(
          fmt::format("pp {} x vp {} = {} stages, the model has {} decoder layers, which with "
                      "embedding and head make at most {} stages",
                      layout_.pipeline,
                      layout_.chunks,
                      parts,
                      decoder_layers,
                      decoder_layers + 2));
    }
    std::vector<int> split(at(parts), decoder_layers / parts);
    const int left_over = decoder_layers % parts;
    // Embedding alone, one layer each, head alone: the only split into as many stages.
    // Several chunks on a stage: late ones are in flight less often.
    const int first = parts == decoder_layers + 2 ? 1 : layout_.chunks > 1 ? parts - left_over : 0;
    for (int i = first; i < first + left_over; ++i) {
      ++split[at(i)];
    }
    return split;
  }

  void check_split(int parts, int decoder_layers) const {
    const std::vector<int>& given = layout_.layers;
    int sum = 0;
    for (const int count : given) {
      sum += count;
    }
    if (static_cast<int>(given.size()) != parts || sum != decoder_layers) {
      fail(fmt::format(
          "layers={} gives {} layers to {} stages, expected {} decoder layers on pp {} x vp {} = "
          "{} stages",
          fmt::join(given, ","),
          sum,
          given.size(),
          decoder_layers,
          layout_.pipeline,
          layout_.chunks,
          parts));
    }
    // The first stage has the embedding and the last the head; those between need a layer.
    for (int i = 1; i + 1 < parts; ++i) {
      if (given[at(i)] == 0) {
        fail(fmt::format("layers={}: stage {} has no layer", fmt::join(given, ","), i));
      }
    }
  }

  AxisAssignment assignment_of(const Op& op) const {
    AxisAssignment assignment{kUnassigned, kUnassigned, kUnassigned};
    for (std::size_t m = 0; m < roles_.size(); ++m) {
      if (mesh_.sizes[m] > 1) {
        assignment[m] = static_cast<std::int8_t>(axis_index(op, axis_name(op, roles_[m])));
      }
    }
    return assignment;
  }

  // Loop axis that a mesh axis shards; "" is none, and so is one that the op lacks.
  std::string axis_name(const Op& op, AxisRole role) const {
    const bool is_experts = op.kind == OpKind::kExperts;
    switch (role) {
      case AxisRole::kData:
        return is_experts && experts_on_data_ ? "xb" : "b";
      case AxisRole::kContext:
        return "s";
      case AxisRole::kTensor:
      case AxisRole::kTensorQueries:
        break;
    }
    if (is_experts) {
      return experts_on_tensor_ ? "e" : "f";
    }
    for (const char* name : {"v", "f"}) {
      if (axis_index(op, name) >= 0) {
        return name;
      }
    }
    if (axis_index(op, "n") >= 0) {
      return role == AxisRole::kTensor ? "n" : "r";
    }
    return layout_.sequence_parallel ? "s" : "";
  }

  Layout boundary_layout() const {
    Layout layout{};
    for (std::size_t m = 0; m < roles_.size(); ++m) {
      if (mesh_.sizes[m] == 1) {
        continue;
      }
      const bool is_tensor =
          roles_[m] == AxisRole::kTensor || roles_[m] == AxisRole::kTensorQueries;
      if (roles_[m] == AxisRole::kData) {
        layout[m] = AxisLayout::shard(0);
      } else if (!is_tensor || layout_.sequence_parallel) {
        layout[m] = AxisLayout::shard(1);
      }
    }
    return layout;
  }

  LayerPlan layer_plan(int layer) const {
    LayerPlan plan;
    plan.op_axes = op_axes_[at(graph_.layers[at(layer)].block)];
    if (layer > 0) {
      plan.input_layout = boundary_layout();
    }
    plan.state_sharding = static_cast<StateSharding>(layout_.zero);
    plan.recompute = layout_.recompute;
    return plan;
  }

  void find_op_axes() {
    for (const Block& block : graph_.blocks) {
      std::vector<AxisAssignment>& axes = op_axes_.emplace_back();
      for (const Op& op : block.ops) {
        axes.push_back(assignment_of(op));
      }
    }
  }

  void add_stages(Plan& plan) const {
    const std::vector<int> split = split_of_layers();
    const int last_layer = static_cast<int>(graph_.layers.size()) - 1;
    plan.stages.resize(at(layout_.pipeline));
    int device = 0;
    for (StagePlan& stage : plan.stages) {
      stage.mesh = mesh_;
      for (int i = 0; i < mesh_.devices(); ++i) {
        stage.devices.push_back(device++);
      }
    }
    int layer = 0;
    for (int part = 0; part < static_cast<int>(split.size()); ++part) {
      const bool is_last = part + 1 == static_cast<int>(split.size());
      ChunkPlan chunk;
      chunk.first_layer = layer;
      const int end = layer + split[at(part)] + (part == 0 ? 1 : 0) + (is_last ? 1 : 0);
      for (; layer < end; ++layer) {
        chunk.layers.push_back(layer_plan(layer));
      }
      if (layer <= last_layer) {
        chunk.output_layout = boundary_layout();
      }
      plan.stages[at(part % layout_.pipeline)].chunks.push_back(std::move(chunk));
    }
  }

  const Graph& graph_;
  const UniformLayout& layout_;
  const std::int64_t batch_;
  const std::int64_t sequence_;
  const int world_;
  const std::string& where_;
  const bool experts_on_data_;
  const bool experts_on_tensor_;
  Mesh mesh_;
  std::vector<AxisRole> roles_;                       // by mesh axis
  std::vector<std::vector<AxisAssignment>> op_axes_;  // of each block
};

}  // namespace

UniformLayout parse_uniform_layout(const std::string& text, const std::string& where) {
  UniformLayout layout;
  std::set<std::string> seen;
  for (const std::string& word : words_of(text)) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) {
      throw InputError(where,
                       fmt::format("expected key=value, such as \"tp=2 dp=4\", got \"{}\"", word));
    }
    const Setting setting{where, word.substr(0, equals), word.substr(equals + 1)};
    if (std::find(kKeys.begin(), kKeys.end(), setting.key) == kKeys.end()) {
      throw InputError(where,
                       fmt::format("unknown key '{}'{}", setting.key, suggest(setting.key, kKeys)));
    }
    if (!seen.insert(setting.key).second) {
      setting.fail("given twice; keep one");
    }
    apply(setting, layout);
  }
  check_size(layout, where);
  if (layout.chunks > 1 && !seen.contains("schedule")) {
    layout.schedule = Schedule::kInterleaved;
  }
  return layout;
}

std::string to_string(const UniformLayout& layout) {
  const UniformLayout standard;
  std::vector<std::string> words;
  const auto add = [&words](const char* key, std::int64_t value, std::int64_t left_out) {
    if (value != left_out) {
      words.push_back(fmt::format("{}={}", key, value));
    }
  };
  add("tp", layout.tensor, standard.tensor);
  add("pp", layout.pipeline, standard.pipeline);
  add("dp", layout.data, standard.data);
  add("cp", layout.context, standard.context);
  add("ep", layout.expert, standard.expert);
  add("vp", layout.chunks, standard.chunks);
  add("zero", layout.zero, standard.zero);
  add("sp", layout.sequence_parallel ? 1 : 0, 0);
  add("micro", layout.micro, standard.micro);
  if (layout.recompute != standard.recompute) {
    words.push_back("recompute=" + to_string(layout.recompute));
  }
  if (layout.schedule != standard.schedule) {
    words.push_back("schedule=" + to_string(layout.schedule));
  }
  if (!layout.layers.empty()) {
    words.push_back(fmt::format("layers={}", fmt::join(layout.layers, ",")));
  }
  return words.empty() ? "dp=1" : join(words, " ");
}

Plan make_uniform_plan(const Graph& graph,
                       const UniformLayout& layout,
                       std::int64_t batch,
                       std::int64_t sequence,
                       Precision precision,
                       int world,
                       const std::string& where) {
  return UniformPlanner(graph, layout, batch, sequence, world, where).plan(precision);
}

Plan make_uniform_plan(const GraphBuilder& graph,
                       const UniformLayout& layout,
                       std::int64_t batch,
                       std::int64_t sequence,
                       Precision precision,
                       int world,
                       const std::string& where) {
  return make_uniform_plan(
      graph(layout.microbatch()), layout, batch, sequence, precision, world, where);
}

}  // namespace shardwise
