#include "runtime/checkpoint_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "core/errors.h"
#include "core/text.h"
#include "core/version.h"
#include "files/atomic_file.h"
#include "files/json.h"
#include "files/json_writer.h"
#include "files/read_file.h"

namespace shardwise {

namespace internal {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;  // compares objects whatever the order of their keys

constexpr std::string_view kStepPrefix = "step-";
constexpr int kFormatVersion = 1;

// Keys of config.json that do not change what the model computes; model_type has its own check.
constexpr std::array<std::string_view, 12> kIgnoredKeys = {"_attn_implementation_autoset",
                                                           "_name_or_path",
                                                           "architectures",
                                                           "bos_token_id",
                                                           "dtype",
                                                           "eos_token_id",
                                                           "model_type",
                                                           "pad_token_id",
                                                           "task_specific_params",
                                                           "torch_dtype",
                                                           "transformers_version",
                                                           "use_cache"};

std::string shown(const Json& object, const std::string& key) {
  return object.contains(key) ? object.at(key).dump() : "no such key";
}

// Absent and null are the same to transformers.
Json value_or_null(const Json& object, const std::string& key) {
  return object.contains(key) ? object.at(key) : Json();
}

// What an interrupted checkpoint has left: a staging folder, or the temporary file of `latest`.
void remove_unfinished(const fs::path& path, FileSystem& files) {
  const std::string name = path.filename().string();
  if (step_of(path.stem())) {
    try_to_remove_folder(path, files);
  } else if (name.starts_with(fmt::format("{}.", kLatestName))) {
    files.remove(path);
  }
}

}  // namespace

std::string step_name(std::int64_t step) { return fmt::format("{}{}", kStepPrefix, step); }

std::optional<std::int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!name.starts_with(kStepPrefix)) {
    return std::nullopt;
  }
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kStepPrefix.size(), end, step);
  if (error != std::errc() || stop != end || step_name(step) != name) {
    return std::nullopt;
  }
  return step;
}

std::string config_text(const CheckpointModel& model, Precision precision) {
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(model.config_json);
  const char* type = precision == Precision::kFloat32 ? "float32" : "bfloat16";
  if (!config.contains("model_type")) {
    config["model_type"] = model.graph->model_type;
  }
  // Called torch_dtype up to transformers 4, dtype since.
  if (config.contains("dtype")) {
    config["dtype"] = type;
  }
  if (config.contains("torch_dtype") || !config.contains("dtype")) {
    config["torch_dtype"] = type;
  }
  return to_json_text(config);
}

void check_same_model_type(const fs::path& path, const CheckpointModel& model) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    return;
  }
  const auto type = read_json_file(path).find("model_type");
  if (type && type->as_string() != model.graph->model_type) {
    throw InputError(type->where(),
                     fmt::format("expected the plan's model, a {}, found \"{}\"; give the "
                                 "checkpoint of this model",
                                 model.graph->model_type,
                                 type->as_string()));
  }
}

void check_same_model(const fs::path& path, const CheckpointModel& model) {
  const JsonValue found_value = read_json_file(path);  // has the better messages
  check_same_model_type(path, model);
  const Json found = Json::parse(read_file(path));
  const Json expected = Json::parse(config_text(model, Precision::kFloat32));
  std::set<std::string> keys;
  for (const Json* config : {&found, &expected}) {
    for (const auto& [key, value] : config->items()) {
      keys.insert(key);
    }
  }
  for (const std::string_view key : kIgnoredKeys) {
    keys.erase(std::string(key));
  }
  for (const std::string& key : keys) {
    if (value_or_null(found, key) != value_or_null(expected, key)) {
      const auto value = found_value.find(key);
      throw InputError(value ? value->where() : fmt::format("{}: key '{}'", path.string(), key),
                       fmt::format("expected {} as in the plan's model, found {}; resume with a "
                                   "plan of the model that was trained",
                                   shown(expected, key),
                                   shown(found, key)));
    }
  }
}

std::string training_text(const TrainingProgress& progress, const std::string& plan) {
  return to_json_text({{"format_version", kFormatVersion},
                       {"shardwise_version", version()},
                       {"step", progress.step},
                       {"tokens", progress.tokens},
                       {"seed", static_cast<std::int64_t>(progress.seed)},
                       {"plan", plan}});
}

TrainingProgress read_training(const fs::path& path) {
  const JsonValue training = read_json_file(path);
  training.at("format_version").as_int(kFormatVersion, kFormatVersion);
  TrainingProgress progress;
  progress.step = training.at("step").as_int64(0);
  progress.tokens = training.at("tokens").as_int64(0);
  progress.seed = static_cast<std::uint64_t>(training.at("seed").as_int64());
  return progress;
}

void try_to_remove_folder(const fs::path& folder, FileSystem& files) {
  try {
    if (files.kind(folder) == PathKind::kMissing) {
      return;
    }
    for (const fs::path& entry : files.list(folder)) {
      files.remove(entry);
    }
    files.remove(folder);
  } catch (const std::exception&) {
    // What stays is called .tmp, and the next checkpoint removes it.
  }
}

void retire_older(const fs::path& folder, std::int64_t newest, int keep, FileSystem& files) {
  std::vector<std::int64_t> older;
  for (const fs::path& entry : files.list(folder)) {
    if (const auto step = step_of(entry); step && *step < newest) {
      older.push_back(*step);
    }
    if (entry.extension() == ".tmp") {
      remove_unfinished(entry, files);
    }
  }
  std::sort(older.begin(), older.end());
  const auto kept = std::min<std::size_t>(static_cast<std::size_t>(keep - 1), older.size());
  older.resize(older.size() - kept);
  for (const std::int64_t step : older) {
    retire_folder(folder / step_name(step), files);
  }
}

void agree(CommunicationGroup& everyone,
           const std::string& operation,
           const std::function<void()>& work) {
  std::exception_ptr error;
  bool is_input = false;
  try {
    work();
  } catch (const InputError&) {
    error = std::current_exception();
    is_input = true;
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  // Size - rank of the first rank that failed, 0: none did. Whether an input was bad.
  std::array<double, 2> failed{
      error ? static_cast<double>(everyone.size() - everyone.index()) : 0.0, is_input ? 1.0 : 0.0};
  try {
    everyone.control_max(failed);
  } catch (const RuntimeFailure&) {
    if (!error) {
      throw;
    }
  }
  if (error) {
    std::rethrow_exception(error);
  }
  if (failed[0] == 0) {
    return;
  }
  const std::string what =
      fmt::format("expected to {}, but rank {} failed; its own message says why",
                  operation,
                  everyone.size() - static_cast<int>(failed[0]));
  const std::string where = fmt::format("rank {}", everyone.index());
  if (failed[1] > 0) {
    throw InputError(where, what);
  }
  throw RuntimeFailure(where + ": " + what);
}

const ParameterSlices& slices_of(const CheckpointMap& map,
                                 const Graph& graph,
                                 const LocalParameter& parameter) {
  const auto op = static_cast<std::size_t>(parameter.op);
  const auto index = static_cast<std::size_t>(parameter.index);
  int layer = parameter.layer;
  TensorIndex tensor = graph.block_of(layer).ops[op].parameters[index].tensor;
  for (const TiedParameter& tied : graph.tied) {
    if (tied.alias_layer == layer && tied.alias_tensor == tensor) {
      layer = tied.owner_layer;
      tensor = tied.owner_tensor;
      break;
    }
  }
  const auto found = std::find_if(map.begin(), map.end(), [&](const ParameterSlices& slices) {
    return slices.layer == layer && slices.tensor == tensor;
  });
  SHARDWISE_CHECK(found != map.end(),
                  fmt::format("no place in files for parameter '{}'", parameter.name));
  return *found;
}

std::string optimizer_name(const std::string& parameter, StateValues which) {
  switch (which) {
    case StateValues::kMaster:
      return parameter + ".master";
    case StateValues::kFirstMoment:
      return parameter + ".exp_avg";
    case StateValues::kSecondMoment:
      return parameter + ".exp_avg_sq";
    case StateValues::kWeight:
      break;
  }
  SHARDWISE_CHECK(false, "weights lie in the model's files");
}

}  // namespace internal

std::optional<std::filesystem::path> find_latest(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  const fs::path pointer = folder / internal::kLatestName;
  std::error_code error;
  if (fs::is_regular_file(pointer, error)) {
    const std::string text = read_file(pointer);
    const std::string name(trim(text));
    const auto step = internal::step_of(name);
    if (step && internal::step_name(*step) == name && fs::is_directory(folder / name, error)) {
      return folder / name;
    }
  }
  std::optional<std::int64_t> newest;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (const auto step = internal::step_of(entry.path()); step && entry.is_directory()) {
      newest = std::max(newest.value_or(*step), *step);
    }
  }
  return newest ? std::optional(folder / internal::step_name(*newest)) : std::nullopt;
}

}  // namespace shardwise
