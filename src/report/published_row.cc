#include "report/published_row.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <regex>

#include "core/errors.h"
#include "core/text.h"
#include "cost/device_preset.h"
#include "report/expert_shapes.h"

namespace shardwise {

namespace {

// Sizes beyond these are typing errors; products of them stay far from overflow.
constexpr double kLargestNumber = 1e9;
constexpr std::int64_t kMostDevices = 1 << 20;

class RowReader {
 public:
  RowReader(const PublishedRow& row, const std::string& file) : row_(row), file_(file) {}

  ReadRun read();

 private:
  bool is_blank(const std::string& column) const { return row_.at(column).empty(); }

  [[noreturn]] void fail(const std::string& column, const std::string& expected) const {
    throw InputError(fmt::format("{}:{}: column '{}'", file_, row_.line, column),
                     fmt::format("expected {}, found \"{}\"", expected, row_.at(column)));
  }

  double number(const std::string& column) const {
    const std::string& text = row_.at(column);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
        value <= 0 || value > kLargestNumber) {
      fail(column, "a positive number");
    }
    return value;
  }

  std::int64_t whole(const std::string& column) const {
    const double value = number(column);
    if (value != std::floor(value)) {
      fail(column, "a positive whole number");
    }
    return static_cast<std::int64_t>(value);
  }
  std::int64_t whole_or(const std::string& column, std::int64_t missing) const {
    return is_blank(column) ? missing : whole(column);
  }
  int degree(const std::string& column) const {
    const std::int64_t value = whole_or(column, 1);
    if (value > kMostDevices) {
      fail(column, fmt::format("at most {}", kMostDevices));
    }
    return static_cast<int>(value);
  }

  bool notes(std::string_view words) const { return note_.find(words) != std::string::npos; }
  // First group of the first match in the note.
  std::optional<std::string> noted(const char* pattern) const {
    std::smatch match;
    return std::regex_search(note_, match, std::regex(pattern)) ? std::optional(match[1].str())
                                                                : std::nullopt;
  }

  std::string blanks() const;
  std::string layout_refusal() const;
  DecoderShape shape() const;
  void choose_gate(DecoderShape& shape) const;
  MatrixFormat format() const;
  void read_layout(PublishedRun& run) const;
  void read_schedule(PublishedRun& run) const;
  void read_software(PublishedRun& run, const DeviceType& device) const;
  Recompute stated_recompute(const DeviceType& device) const;
  void set_recompute(PublishedRun& run, Recompute recompute) const;
  void find_what_fits(PublishedRun& run, const DeviceType& device) const;
  Cluster cluster(const DeviceType& device) const;
  double software_year(const DeviceType& device) const;

  const PublishedRow& row_;
  const std::string& file_;
  const std::string note_ = to_lower(row_.at("note"));
};

std::string RowReader::blanks() const {
  std::vector<std::string> blank;
  for (const char* column : {"layers",
                             "hidden",
                             "heads",
                             "seq_len",
                             "n_gpus",
                             "dp",
                             "tp",
                             "pp",
                             "micro_batch",
                             "global_batch",
                             "iter_time_s"}) {
    if (is_blank(column)) {
      blank.emplace_back(column);
    }
  }
  return blank.empty() ? "" : "blank: " + join(blank, ", ");
}

std::string RowReader::layout_refusal() const {
  const std::int64_t ranks = static_cast<std::int64_t>(degree("dp")) * degree("tp");
  const std::int64_t stages = static_cast<std::int64_t>(degree("pp")) * degree("cp");
  if (ranks > kMostDevices || ranks * stages != whole("n_gpus")) {
    return fmt::format("layout: dp {} x tp {} x pp {} x cp {} is not {} GPUs",
                       degree("dp"),
                       degree("tp"),
                       degree("pp"),
                       degree("cp"),
                       whole("n_gpus"));
  }
  const std::int64_t together = whole("micro_batch") * degree("dp");
  if (whole("global_batch") % together != 0) {
    return fmt::format("batch: {} is no multiple of micro-batch {} x dp {}",
                       whole("global_batch"),
                       whole("micro_batch"),
                       degree("dp"));
  }
  return "";
}

// The published parameter count tells a gated MLP from a plain one of the same width.
void RowReader::choose_gate(DecoderShape& shape) const {
  if (is_blank("params_b")) {
    return;
  }
  const double published = number("params_b") * 1e9;
  DecoderShape gated = shape;
  gated.gated = true;
  gated.tied = false;
  shape = std::abs(gated.parameters() - published) < std::abs(shape.parameters() - published)
              ? gated
              : shape;
}

DecoderShape RowReader::shape() const {
  DecoderShape shape;
  if (const std::optional<DecoderShape> known = expert_shape(row_.at("model"))) {
    shape = *known;
    shape.layers = whole("layers");
    shape.hidden = whole("hidden");
    shape.heads = whole("heads");
    shape.key_value_heads = whole_or("kv_heads", shape.heads);
    return shape;
  }
  shape.layers = whole("layers");
  shape.hidden = whole("hidden");
  shape.heads = whole("heads");
  shape.key_value_heads = whole_or("kv_heads", shape.heads);
  shape.head_width = std::max<std::int64_t>(shape.hidden / shape.heads, 1);
  shape.feed_forward = whole_or("ffn", 4 * shape.hidden);
  shape.vocabulary = whole_or("vocab", 51200);
  choose_gate(shape);
  return shape;
}

MatrixFormat RowReader::format() const {
  const std::string precision = noted("precision=([^;]+)").value_or("");
  if (precision.find("fp4") != std::string::npos) {
    return MatrixFormat::kFloat4Blocks;
  }
  if (precision.starts_with("mxfp8") || precision.starts_with("fp8-mx")) {
    return MatrixFormat::kFloat8Blocks;
  }
  if (precision.find("fp8") != std::string::npos || precision.find("float8") != std::string::npos) {
    return MatrixFormat::kFloat8;
  }
  return MatrixFormat::kCompute;
}

void RowReader::read_layout(PublishedRun& run) const {
  UniformLayout& grid = run.layout.grid;
  grid.data = degree("dp");
  grid.tensor = degree("tp");
  grid.pipeline = degree("pp");
  grid.context = degree("cp");
  grid.expert = degree("ep");
  grid.micro = whole("micro_batch");
  run.layout.batch = whole("global_batch");
  run.layout.sequence = whole("seq_len");
}

void RowReader::read_schedule(PublishedRun& run) const {
  UniformLayout& grid = run.layout.grid;
  const std::string schedule = to_lower(row_.at("schedule"));
  const std::int64_t per_stage =
      std::max<std::int64_t>((run.shape.layers + grid.pipeline - 1) / grid.pipeline, 1);
  if (schedule.starts_with("interleaved") && grid.pipeline > 1) {
    grid.schedule = Schedule::kInterleaved;
    std::int64_t chunks = 1;
    const std::string count = schedule.substr(std::min(schedule.size(), std::size_t{13}));
    if (schedule == "interleaved-max") {
      chunks = per_stage;
    } else if (std::from_chars(count.data(), count.data() + count.size(), chunks).ec !=
               std::errc()) {
      chunks = 2;  // "interleaved" alone: the least
    }
    grid.chunks = static_cast<int>(std::clamp<std::int64_t>(chunks, 1, per_stage));
  } else if (schedule == "zb-1p") {
    grid.schedule = Schedule::kZeroBubble1P;
  } else if (schedule == "zb-2p") {
    grid.schedule = Schedule::kZeroBubble2P;
  } else if (schedule == "gpipe" || schedule == "afab") {
    grid.schedule = Schedule::kGpipe;
  }
}

Recompute RowReader::stated_recompute(const DeviceType& device) const {
  const std::string recompute = to_lower(row_.at("recompute"));
  const bool is_recent = device.peak_fp8.count > 0;
  if (recompute == "full" || (recompute.empty() && is_blank("schedule") && !is_recent)) {
    return Recompute::kFull;
  }
  return recompute == "selective" ? Recompute::kSelective : Recompute::kNone;
}

// Selective recomputation is that of attention where its scores are stored, of cheap ops where they
// are not, and of every second layer under frameworks that shard everything and know no ops.
void RowReader::set_recompute(PublishedRun& run, Recompute recompute) const {
  const bool knows_no_ops = run.layout.grid.zero >= 2;
  const bool stores_scores = run.execution.attention == AttentionKernel::kStored ||
                             run.execution.attention == AttentionKernel::kRecomputed;
  const bool is_selective = recompute == Recompute::kSelective;
  run.layout.repeats_every_second_layer = is_selective && knows_no_ops;
  if (stores_scores) {
    run.execution.attention =
        is_selective && !knows_no_ops ? AttentionKernel::kRecomputed : AttentionKernel::kStored;
  }
  run.layout.grid.recompute =
      is_selective && (knows_no_ops || stores_scores) ? Recompute::kNone : recompute;
}

void RowReader::read_software(PublishedRun& run, const DeviceType& device) const {
  UniformLayout& grid = run.layout.grid;
  Execution& execution = run.execution;
  execution.format = format();
  const bool is_recent = device.peak_fp8.count > 0;
  grid.zero = is_blank("zero") ? (is_recent ? 1 : 0) : static_cast<int>(row_.at("zero")[0] - '0');
  const bool is_fully_sharded = grid.zero >= 2;
  // No pipeline engine and no kernels beyond those of the framework.
  const bool is_plain = is_fully_sharded && is_blank("schedule");
  execution.year = software_year(device);
  const bool has_flash = is_recent || is_fully_sharded;
  execution.attention = !has_flash               ? AttentionKernel::kStored
                        : is_recent && !is_plain ? AttentionKernel::kTuned
                                                 : AttentionKernel::kFlash;
  execution.elementwise = is_plain ? Elementwise::kEager : Elementwise::kFused;
  execution.layer = is_recent                ? LayerOverlap::kAll
                    : execution.year >= 2022 ? LayerOverlap::kInputGradients
                                             : LayerOverlap::kNothing;
  execution.state = grid.zero >= 1 ? StateOverlap::kCompute : StateOverlap::kNothing;
  execution.overlaps_pipeline = grid.schedule == Schedule::kInterleaved && is_recent;
  execution.overlaps_experts =
      notes("1f1b overlap") || (execution.year >= 2025 && grid.chunks > 1 && grid.expert > 1);
  execution.token_copies =
      is_recent ? static_cast<int>(std::max<std::int64_t>(run.shape.experts_per_token, 1)) : 1;
  // Release 26.06 on: fused grouped products of block formats, whole steps captured (release notes
  // of Megatron-Bridge 0.5.1).
  execution.fuses_experts = (execution.format == MatrixFormat::kFloat8Blocks ||
                             execution.format == MatrixFormat::kFloat4Blocks) &&
                            execution.year >= 2026.5;
  execution.repeats_expert_input = false;
  // Frameworks that shard everything know no ops; elsewhere, where a row does not state it, what
  // had to be repeated to fit was the least.
  execution.repeats_whole_layers = is_fully_sharded || stated_recompute(device) == Recompute::kFull;
  execution.dropout = !has_flash;
  execution.gradient_bytes =
      is_fully_sharded || device.memory.count <= (std::int64_t{32} << 30) ? 2 : 4;
  execution.gathers_again = true;
  grid.sequence_parallel =
      grid.tensor > 1 && whole("seq_len") % (std::int64_t{grid.context} * grid.tensor) == 0 &&
      (is_recent ||
       (!notes("no sequence parallel") && stated_recompute(device) == Recompute::kSelective));
}

// What ran did fit: a row that says nothing of recomputation, or "none", may still have needed it.
// The same for sharding of state, where the column is blank.
void RowReader::find_what_fits(PublishedRun& run, const DeviceType& device) const {
  const Cluster machine = cluster(device);
  const Recompute stated = stated_recompute(device);
  for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    if (recompute < stated) {
      continue;
    }
    set_recompute(run, recompute);
    run.model = std::make_shared<RunModel>(run.shape, run.layout, run.execution, machine);
    Evaluation evaluation = run.model->evaluate();
    const bool state_fits = std::all_of(
        evaluation.stage_memory.begin(), evaluation.stage_memory.end(), [](const StageMemory& m) {
          return m.weights + m.gradients + m.optimizer + m.reserve <= m.limit;
        });
    if (!state_fits && is_blank("zero") && run.layout.grid.zero < 3) {
      run.layout.grid.zero = 3;
      run.execution.state = StateOverlap::kCompute;
      set_recompute(run, recompute);
      run.model = std::make_shared<RunModel>(run.shape, run.layout, run.execution, machine);
      evaluation = run.model->evaluate();
    }
    if (evaluation.fits()) {
      return;
    }
  }
}

// A release "container 26.04", or a year in words; else when such devices were usual.
double RowReader::software_year(const DeviceType& device) const {
  if (const auto release = noted("container ([0-9]+\\.[0-9]+)")) {
    const double number = std::stod(*release);
    return 2000 + std::floor(number) + (number - std::floor(number)) * 100 / 12;
  }
  if (const auto year = noted("(20[12][0-9])")) {
    return std::stod(*year) + 0.5;
  }
  if (device.peak_fp4.count > 0) {
    return 2025.5;
  }
  return device.peak_fp8.count > 0 ? 2024.5 : device.peak_bf16.count > 200e12 ? 2022.5 : 2020.5;
}

Cluster RowReader::cluster(const DeviceType& device) const {
  NodePreset node = usual_node(device.name).value_or(NodePreset{"node", device.name, 8});
  if (!is_blank("gpus_per_node") && !notes("nvl72")) {
    node.devices = degree("gpus_per_node");
  }
  if (const auto gigabits = noted("(?:inter-node|network) ([0-9]+) gb/s")) {
    node.network_bandwidth = BytesPerSecond(std::stod(*gigabits) * 1e9 / 8 / node.devices);
  }
  const auto devices = static_cast<int>(whole("n_gpus"));
  // A job spreads evenly over its nodes: 256 of 72 each are four times 64.
  while (devices > node.devices && devices % node.devices != 0) {
    --node.devices;
  }
  Cluster cluster = cluster_of(node, (devices + node.devices - 1) / node.devices, row_.at("gpu"));
  cluster.types = {device};
  return cluster;
}

ReadRun RowReader::read() {
  // Numbers that are there must be sound, whether or not the row can be predicted.
  for (const char* column : {"layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "seq_len"}) {
    (void)whole_or(column, 0);
  }
  if (!is_blank("iter_time_s")) {
    (void)number("iter_time_s");
  }
  if (const std::string blank = blanks(); !blank.empty()) {
    return {std::nullopt, blank};
  }
  const std::optional<DeviceType> device = find_device(row_.at("gpu"));
  if (!device) {
    return {std::nullopt,
            fmt::format(
                "unknown GPU \"{}\"{}", row_.at("gpu"), suggest(row_.at("gpu"), device_names()))};
  }
  if (const std::string refusal = layout_refusal(); !refusal.empty()) {
    return {std::nullopt, refusal};
  }
  if (degree("ep") > 1 && !expert_shape(row_.at("model"))) {
    return {std::nullopt, fmt::format("no expert shapes for model \"{}\"", row_.at("model"))};
  }
  PublishedRun run;
  run.row = &row_;
  run.shape = shape();
  const MatrixFormat products = format();
  if ((products == MatrixFormat::kFloat4Blocks && !(device->peak_fp4.count > 0)) ||
      (products != MatrixFormat::kCompute && !(device->peak_fp8.count > 0))) {
    return {std::nullopt, fmt::format("{} has no such precision", device->name)};
  }
  run.measured = number("iter_time_s");
  if (const auto gigabytes = noted("mem_gb[=~]([0-9]+(?:\\.[0-9]+)?)(?:;|$)")) {
    run.measured_memory = std::stod(*gigabytes) * 1e9;
  }
  run.run_class = run.shape.experts > 0                ? RunClass::kExperts
                  : products == MatrixFormat::kCompute ? RunClass::kDenseHalf
                                                       : RunClass::kDenseSmallFormat;
  read_layout(run);
  read_schedule(run);
  read_software(run, *device);
  try {
    find_what_fits(run, *device);
  } catch (const InputError& error) {
    return {std::nullopt, fmt::format("layout: {}", error.what())};
  }
  return {run, ""};
}

}  // namespace

ReadRun read_published_run(const PublishedRow& row, const std::string& file) {
  return RowReader(row, file).read();
}

}  // namespace shardwise
