#include "models/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/errors.h"
#include "core/text.h"
#include "files/json_convert.h"
#include "files/json_writer.h"
#include "models/config_reader.h"
#include "models/graph_assembler.h"
#include "models/model_family.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

// Above every model and below where sums of sizes leave 63 bits.
constexpr double kMostParameters = 1e15;
constexpr double kMostElements = 1e15;

const ModelFamily& find_known_family(const JsonValue& root, const std::string& model_type) {
  const ModelFamily* family = find_family(model_type);
  if (family == nullptr) {
    const std::optional<JsonValue> value = root.find("model_type");
    const JsonValue& place = value ? *value : root;
    throw place.error(fmt::format("expected a known model_type, found \"{}\"{}",
                                  model_type,
                                  suggest(model_type, model_types())));
  }
  return *family;
}

std::string model_type_of(const JsonValue& root, const std::optional<std::string>& model_type) {
  if (model_type) {
    return *model_type;
  }
  if (!root.find("model_type")) {
    throw root.error("expected key 'model_type', found an object without it; name it (known: " +
                     join(model_types(), ", ") + ")");
  }
  return root.at("model_type").as_string();
}

void check_size(const JsonValue& root, const ModelConfig& config) {
  const auto h = static_cast<double>(config.hidden_size);
  const double experts = std::max(1.0, static_cast<double>(config.num_experts));
  const double heads = static_cast<double>(config.num_heads) * static_cast<double>(config.head_dim);
  const double layer =
      h * (4 * heads +
           3 * experts * static_cast<double>(std::max(config.expert_width, config.ffn_width)));
  const double ends = h * static_cast<double>(2 * config.vocabulary + config.positions);
  if (layer * static_cast<double>(config.num_layers) + ends > kMostParameters) {
    throw root.error("expected fewer than 1e15 parameters; check the sizes");
  }
}

// No tensor of the micro-batch may leave 63 bits.
void check_tokens(const ModelConfig& config, std::int64_t microbatch, std::int64_t sequence) {
  const std::int64_t width = std::max({config.hidden_size,
                                       config.num_heads * config.head_dim,
                                       config.ffn_width,
                                       config.expert_width,
                                       config.shared_width,
                                       config.vocabulary,
                                       config.num_experts});
  const double elements =
      static_cast<double>(microbatch) * static_cast<double>(sequence) * static_cast<double>(width);
  if (elements > kMostElements) {
    throw InputError(config.source,
                     fmt::format("expected a micro-batch whose largest tensor has at most {:.0e} "
                                 "elements, found {} sequences of {} tokens; use more "
                                 "micro-batches",
                                 kMostElements,
                                 microbatch,
                                 sequence));
  }
}

}  // namespace

ModelConfig parse_model_config(const JsonValue& value,
                               const std::optional<std::string>& model_type) {
  ConfigReader reader(value);
  ModelConfig config;
  config.model_type = model_type_of(value, model_type);
  config.source = value.file_name();
  const ModelFamily& family = find_known_family(value, config.model_type);
  family.read(reader, config);
  check_common_keys(reader);
  reader.finish(config.model_type);
  check_size(value, config);
  config.warnings = std::move(reader.warnings);
  config.refusals = std::move(reader.refusals);
  nlohmann::ordered_json json = to_ordered_json(value);
  json["model_type"] = config.model_type;
  config.json = to_json_text(json);
  return config;
}

ModelConfig read_model_config(const std::filesystem::path& path,
                              const std::optional<std::string>& model_type) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  return parse_model_config(read_json_file(is_folder ? path / "config.json" : path), model_type);
}

Graph build_graph(const ModelConfig& config, std::int64_t microbatch, std::int64_t sequence) {
  SHARDWISE_CHECK(microbatch >= 1 && sequence >= 1, "an empty micro-batch");
  if (sequence > config.positions) {
    throw InputError(config.source,
                     fmt::format("expected a sequence of at most {} tokens, the model's positions, "
                                 "found {}; shorten it",
                                 config.positions,
                                 sequence));
  }
  if (config.fixed_sequence > 0 && sequence != config.fixed_sequence) {
    throw InputError(config.source,
                     fmt::format("expected a sequence of {}, which the size of the images gives, "
                                 "found {}; use --sequence {}",
                                 config.fixed_sequence,
                                 sequence,
                                 config.fixed_sequence));
  }
  check_tokens(config, microbatch, sequence);
  const ModelFamily& family = family_of(config);
  GraphAssembler assembler(config.model_type, {microbatch, sequence});
  family.build(config, {microbatch, sequence}, assembler);
  return std::move(assembler).take();
}

std::vector<std::string> training_refusals(const ModelConfig& config) { return config.refusals; }

}  // namespace shardwise
