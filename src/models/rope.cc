#include "models/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace shardwise {

namespace {

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kLargestTheta = 1e30;

// The one object that holds the type, if any: rope_scaling, or else rope_parameters.
std::optional<JsonValue> find_settings(ConfigReader& reader) {
  const std::optional<JsonValue> scaling = reader.find("rope_scaling");
  const std::optional<JsonValue> parameters = reader.find("rope_parameters");
  if (scaling && parameters) {
    throw scaling->unexpected("no such key beside rope_parameters", "remove one of the two");
  }
  return scaling ? scaling : parameters;
}

double positive(const JsonValue& settings, const std::string& key) {
  return settings.at(key).as_double(std::numeric_limits<double>::min(), kLargestTheta);
}

void check_partial_rotation(const std::optional<JsonValue>& factor) {
  if (factor && !factor->is_null() && factor->as_double() != 1) {
    throw factor->unexpected("1", "rotating a part of each head is not supported");
  }
}

std::string type_of(const JsonValue& settings) {
  std::optional<JsonValue> type = settings.find("rope_type");
  if (!type) {
    type = settings.find("type");
  }
  return type ? type->as_string() : "default";
}

// Positions of the original training: a key of the configuration, of the settings, or as now.
double original_positions(ConfigReader& reader,
                          const JsonValue& settings,
                          const ModelConfig& config) {
  constexpr const char* kKey = "original_max_position_embeddings";
  std::optional<JsonValue> value = reader.find(kKey);
  if (!value) {
    value = settings.find(kKey);
  }
  return value ? value->as_double(1, kLargest) : static_cast<double>(config.positions);
}

}  // namespace

RopeConfig read_rope(ConfigReader& reader, const ModelConfig& config, double default_theta) {
  if (config.head_dim % 2 != 0) {
    throw reader.root().error(fmt::format(
        "expected an even head size, as its halves are rotated together, found {}; see head_dim, "
        "hidden_size and num_attention_heads",
        config.head_dim));
  }
  RopeConfig rope;
  rope.theta = reader.number("rope_theta", default_theta, 1e-6, kLargestTheta);
  check_partial_rotation(reader.find("partial_rotary_factor"));
  reader.require_flag("rope_interleaved", false, "interleaved rotation is not supported");
  const std::optional<JsonValue> settings = find_settings(reader);
  if (!settings) {
    return rope;
  }
  rope.type = type_of(*settings);
  if (const auto theta = settings->find("rope_theta"); theta && !theta->is_null()) {
    rope.theta = theta->as_double(1e-6, kLargestTheta);
  }
  check_partial_rotation(settings->find("partial_rotary_factor"));

  constexpr const char* kType = "rope_type";
  constexpr const char* kOldType = "type";
  constexpr const char* kTheta = "rope_theta";
  constexpr const char* kPartial = "partial_rotary_factor";
  constexpr const char* kOriginal = "original_max_position_embeddings";
  if (rope.type == "default") {
    settings->reject_unknown_keys({kType, kOldType, kTheta, kPartial});
  } else if (rope.type == "linear") {
    settings->reject_unknown_keys({kType, kOldType, kTheta, kPartial, "factor"});
    rope.parameters = {positive(*settings, "factor")};
  } else if (rope.type == "llama3") {
    settings->reject_unknown_keys({kType,
                                   kOldType,
                                   kTheta,
                                   kPartial,
                                   kOriginal,
                                   "factor",
                                   "low_freq_factor",
                                   "high_freq_factor"});
    rope.parameters = {positive(*settings, "factor"),
                       positive(*settings, "low_freq_factor"),
                       positive(*settings, "high_freq_factor"),
                       original_positions(reader, *settings, config)};
    if (rope.parameters[1] >= rope.parameters[2]) {
      throw settings->at("low_freq_factor").unexpected("less than high_freq_factor");
    }
  } else if (rope.type == "dynamic" || rope.type == "yarn" || rope.type == "longrope" ||
             rope.type == "proportional") {
    reader.ignore({kOriginal});
    reader.refusals.push_back(fmt::format("rope type \"{}\"", rope.type));
  } else {
    throw settings->error(fmt::format(
        "expected rope type \"default\", \"linear\", \"llama3\", \"dynamic\", \"yarn\", "
        "\"longrope\" or \"proportional\", found \"{}\"",
        rope.type));
  }
  return rope;
}

}  // namespace shardwise
