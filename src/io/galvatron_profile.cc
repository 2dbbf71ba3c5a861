#include "io/galvatron_profile.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace shardwise {

namespace {

constexpr int kMaxGroup = 1 << 20;
constexpr double kLargest = 1e15;  // of any measured value: sums of these stay finite

double number_of(const JsonValue& value) { return value.as_double(0, kLargest); }
double positive(const JsonValue& value) { return value.as_double(1e-12, kLargest); }

// The whole number that `text` starts with; moves `text` behind it.
std::optional<int> take_number(std::string_view& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0 || number > kMaxGroup) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) {
    return false;
  }
  text.remove_prefix(prefix.size());
  return true;
}

// Least squares of a polynomial of degree `Order - 1`, by its normal equations; x is scaled to at
// most 1, so that they are well conditioned for three terms.
template <std::size_t Order>
std::optional<std::array<double, Order>> fitted(
    const std::vector<std::pair<double, double>>& points) {
  double scale = 0;
  for (const auto& point : points) {
    scale = std::max(scale, point.first);
  }
  std::array<std::array<double, Order + 1>, Order> rows{};
  for (const auto& [x, y] : points) {
    std::array<double, Order> powers{};
    double power = 1;
    for (std::size_t k = 0; k < Order; ++k, power *= x / scale) {
      powers[k] = power;
    }
    for (std::size_t i = 0; i < Order; ++i) {
      for (std::size_t j = 0; j < Order; ++j) {
        rows[i][j] += powers[i] * powers[j];
      }
      rows[i][Order] += powers[i] * y;
    }
  }
  for (std::size_t i = 0; i < Order; ++i) {
    if (std::abs(rows[i][i]) < 1e-9) {
      return std::nullopt;  // fewer different x than terms
    }
    for (std::size_t r = 0; r < Order; ++r) {
      const double factor = rows[r][i] / rows[i][i];
      for (std::size_t j = i; r != i && j <= Order; ++j) {
        rows[r][j] -= factor * rows[i][j];
      }
    }
  }
  std::array<double, Order> result{};
  double power = 1;
  for (std::size_t k = 0; k < Order; ++k, power *= scale) {
    result[k] = rows[k][Order] / rows[k][k] / power;
  }
  return result;
}

// One measured "layertype_<i>[_bsz<b>][_seq<s>]".
struct TimeRow {
  int batch = 1;
  std::optional<int> sequence;
  double ms_per_sample = 0;
};

std::vector<TimeRow> time_rows(const JsonValue& file, const std::string& prefix) {
  std::vector<TimeRow> rows;
  for (const auto& [key, value] : file.members()) {
    std::string_view rest = key;
    if (!take(rest, prefix) || (!rest.empty() && rest.front() != '_')) {
      continue;
    }
    TimeRow row;
    row.ms_per_sample = number_of(value);
    if (take(rest, "_bsz")) {
      const auto batch = take_number(rest);
      if (!batch || *batch == 0) {
        throw value.error("expected a key like 'layertype_0_bsz8_seq2048'");
      }
      row.batch = *batch;
    }
    if (take(rest, "_seq")) {
      row.sequence = take_number(rest);
    }
    if (!rest.empty()) {
      throw value.error("expected a key like 'layertype_0_bsz8_seq2048'");
    }
    rows.push_back(row);
  }
  return rows;
}

GalvatronLine time_line(const JsonValue& file,
                        const std::string& prefix,
                        const GalvatronProfileOptions& options) {
  const std::vector<TimeRow> rows = time_rows(file, prefix);
  std::vector<std::pair<double, double>> points;
  for (const TimeRow& row : rows) {
    const bool is_here = !row.sequence || *row.sequence == options.sequence;
    if (options.time_mode == GalvatronTimeMode::kSequence) {
      if (row.sequence && row.batch == 1) {
        points.emplace_back(*row.sequence, row.ms_per_sample);
      }
    } else if (is_here) {
      points.emplace_back(row.batch, row.ms_per_sample * row.batch);
    }
  }
  const auto need = [&](std::size_t count, const char* what) {
    if (points.size() < count) {
      throw file.error(
          fmt::format("key '{}...': expected at least {} {}, found {}; profile more, or "
                      "use another time mode",
                      prefix,
                      count,
                      what,
                      points.size()));
    }
  };
  GalvatronLine line;
  switch (options.time_mode) {
    case GalvatronTimeMode::kStatic:
      need(1, "time for this sequence length");
      line.slope = points.front().second / points.front().first;
      break;
    case GalvatronTimeMode::kBatch: {
      need(8, "batch sizes for this sequence length");
      if (const auto terms = fitted<2>(points)) {
        line = {(*terms)[1], (*terms)[0]};
      }
      break;
    }
    case GalvatronTimeMode::kSequence: {
      need(3, "sequence lengths at batch 1");
      if (const auto terms = fitted<3>(points)) {
        const double s = options.sequence;
        line.slope = (*terms)[0] + s * ((*terms)[1] + s * (*terms)[2]);
      }
      break;
    }
  }
  if (!(line.slope > 0) && prefix != "layertype_other") {
    throw file.error(
        fmt::format("key '{}...': the times do not grow with the work; profile again", prefix));
  }
  return line;
}

// Raw measurements are not used, but a negative one shows a broken profile.
void check_numbers(const JsonValue& value) {
  if (value.is_number()) {
    number_of(value);
  } else if (value.is_object()) {
    for (const auto& [key, member] : value.members()) {
      check_numbers(member);
    }
  } else {
    throw value.unexpected("a number or a group of numbers");
  }
}

// A group that may be keyed by sequence length: {"2048": {...}} or {...} itself.
JsonValue at_sequence(const JsonValue& group, int sequence) {
  return group.find(fmt::format("{}", sequence)).value_or(group);
}

std::map<int, double> by_degree(const JsonValue& value) {
  if (value.is_number()) {
    return {{1, number_of(value)}};
  }
  std::map<int, double> result;
  for (const auto& [key, member] : value.members()) {
    std::string_view rest = key;
    const auto degree = take_number(rest);
    if (!degree || *degree == 0 || !rest.empty()) {
      throw member.error("expected a degree such as \"4\" as key");
    }
    result[*degree] = number_of(member);
  }
  if (result.empty()) {
    throw value.unexpected("at least one degree");
  }
  return result;
}

GalvatronEndsProfile ends_of(const JsonValue& file, const std::string& key, int sequence) {
  const JsonValue group = at_sequence(file.at(key), sequence);
  return {by_degree(group.at("model_states")), by_degree(group.at("activation"))};
}

// "allreduce_size_8_consec_1", "pp_size_4", "all2all_size_4_16MB_time": the first number.
int group_of(std::string_view& rest, const JsonValue& value, const char* example) {
  const auto group = take_number(rest);
  if (!group || *group < 1) {
    throw value.error(fmt::format("expected a key like '{}'", example));
  }
  return *group;
}

}  // namespace

GalvatronModelProfile galvatron_model_from_json(const JsonValue& time,
                                                const JsonValue& memory,
                                                const GalvatronProfileOptions& options) {
  check_numbers(time);
  check_numbers(memory);
  const bool is_parallel = options.memory_mode == GalvatronMemoryMode::kSequenceParallel;
  const std::string suffix = is_parallel ? "_sp" : "";
  GalvatronModelProfile model;
  model.hidden = options.hidden;
  model.sequence = options.sequence;
  for (int type = 0;; ++type) {
    const std::string name = fmt::format("layertype_{}", type);
    if (type > 0 && !memory.find(name + suffix)) {
      break;
    }
    const JsonValue group = at_sequence(memory.at(name + suffix), options.sequence);
    GalvatronLayerProfile layer;
    layer.forward_ms = time_line(time, name, options);
    layer.parameter_mb = number_of(group.at("parameter_size"));
    const JsonValue activations = group.at("tp_activation_per_bsz_dict");
    for (const auto& [key, value] : activations.members()) {
      if (key == "checkpoint") {
        layer.checkpoint_mb = number_of(value);
        continue;
      }
      std::string_view rest = key;
      const auto degree = take_number(rest);
      if (!degree || *degree == 0 || !rest.empty()) {
        throw value.error("expected a degree such as \"4\", or \"checkpoint\", as key");
      }
      layer.activation_mb[*degree] = number_of(value);
    }
    if (layer.activation_mb.empty()) {
      throw activations.unexpected("at least one degree");
    }
    activations.at("checkpoint");
    model.layer_types.push_back(std::move(layer));
  }
  if (!time_rows(time, "layertype_other").empty()) {
    model.ends_forward_ms = time_line(time, "layertype_other", options);
  }
  model.ends = ends_of(memory, "other_memory_pp_off" + suffix, options.sequence);
  model.first_end = ends_of(memory, "other_memory_pp_on_first" + suffix, options.sequence);
  model.last_end = ends_of(memory, "other_memory_pp_on_last" + suffix, options.sequence);
  return model;
}

GalvatronModelProfile read_galvatron_model(const std::filesystem::path& time_file,
                                           const std::filesystem::path& memory_file,
                                           const GalvatronProfileOptions& options) {
  return galvatron_model_from_json(read_json_file(time_file), read_json_file(memory_file), options);
}

void add_galvatron_allreduce(const JsonValue& file, GalvatronHardware& hardware) {
  for (const auto& [key, value] : file.members()) {
    std::string_view rest = key;
    const char* example = "allreduce_size_8_consec_1";
    if (!take(rest, "allreduce_size_")) {
      throw value.error(fmt::format("expected a key like '{}'", example));
    }
    const int group = group_of(rest, value, example);
    if (rest == "_consec_1") {
      hardware.allreduce_consecutive_gb_s[group] = positive(value);
    } else if (rest == "_consec_0") {
      hardware.allreduce_strided_gb_s[group] = positive(value);
    } else {
      throw value.error(fmt::format("expected a key like '{}'", example));
    }
  }
}

void add_galvatron_point_to_point(const JsonValue& file, GalvatronHardware& hardware) {
  for (const auto& [key, value] : file.members()) {
    std::string_view rest = key;
    if (!take(rest, "pp_size_")) {
      throw value.error("expected a key like 'pp_size_4'");
    }
    hardware.point_to_point_gb_s[group_of(rest, value, "pp_size_4")] = positive(value);
  }
}

void add_galvatron_overlap(const JsonValue& file, GalvatronHardware& hardware) {
  hardware.overlap = file.at("overlap_coe").as_double(1, 1000);
}

void add_galvatron_collectives(const JsonValue& file, GalvatronHardware& hardware) {
  const char* example = "allreduce_size_8_16MB_time";
  for (const auto& [key, value] : file.members()) {
    std::string_view rest = key;
    auto* tables = &hardware.allreduce;
    if (take(rest, "all2all_size_")) {
      tables = &hardware.all_to_all;
    } else if (!take(rest, "allreduce_size_")) {
      throw value.error(fmt::format("expected a key like '{}'", example));
    }
    const int group = group_of(rest, value, example);
    const auto megabytes = take(rest, "_") ? take_number(rest) : std::nullopt;
    if (!megabytes || *megabytes < 1 || rest != "MB_time") {
      throw value.error(fmt::format("expected a key like '{}'", example));
    }
    (*tables)[group].ms_by_mb[*megabytes] = positive(value);
  }
  for (auto* tables : {&hardware.allreduce, &hardware.all_to_all}) {
    for (auto& [group, table] : *tables) {
      const std::vector<std::pair<double, double>> points(table.ms_by_mb.begin(),
                                                          table.ms_by_mb.end());
      const auto terms = fitted<2>(points);
      if (!terms) {
        throw file.error(fmt::format("group of {}: expected at least two message sizes", group));
      }
      table.line = {(*terms)[1], (*terms)[0]};
    }
  }
}

GalvatronHardware read_galvatron_hardware(const std::filesystem::path& folder,
                                          int nodes,
                                          int devices_per_node) {
  const std::string shape = fmt::format("_{}nodes_{}gpus_per_node.json", nodes, devices_per_node);
  GalvatronHardware hardware;
  add_galvatron_allreduce(read_json_file(folder / ("allreduce_bandwidth" + shape)), hardware);
  add_galvatron_point_to_point(read_json_file(folder / ("p2p_bandwidth" + shape)), hardware);
  add_galvatron_overlap(read_json_file(folder / "overlap_coefficient.json"), hardware);
  const auto collectives = folder / ("sp_time" + shape);
  if (std::filesystem::exists(collectives)) {
    add_galvatron_collectives(read_json_file(collectives), hardware);
  }
  return hardware;
}

}  // namespace shardwise
