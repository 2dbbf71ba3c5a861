#include "io/sailor_files.h"

#include <fmt/format.h>

#include <charconv>

#include "io/layer_profile.h"

namespace shardwise {

namespace {

constexpr double kMostBytes = 1e15;   // of a layer
constexpr double kMostRate = 1e15;    // bytes per second
constexpr double kMostFactor = 1e6;   // of a fitted curve, GB/s
constexpr int kMostCount = 1 << 20;   // degrees, layers, micro-batches
constexpr double kLongestStep = 1e6;  // seconds
constexpr double kLargestDevice = 1e15;

int count_key(const JsonMember& member, const char* what, int least) {
  int number = 0;
  const std::string& key = member.key;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), number);
  if (error != std::errc() || end != key.data() + key.size() || number < least ||
      number > kMostCount) {
    throw member.value.error(fmt::format("expected {} as key", what));
  }
  return number;
}

double bytes_at(const JsonValue& layer, std::string_view key) {
  return layer.at(key).as_double(0, kMostBytes);
}

// Layers of all stages in order; each stage's number of layers goes to the result.
std::vector<int> layers_of_stages(const JsonValue& stages) {
  std::vector<int> counts;
  int next = 0;
  for (const JsonValue& stage : stages.items()) {
    const int first = next;
    for (const JsonValue& layer : stage.items()) {
      if (layer.as_int() != next) {
        throw layer.unexpected(fmt::format("layer {}", next),
                               "layers are numbered through from 0, stage after stage");
      }
      ++next;
    }
    if (next == first) {
      throw stage.unexpected("at least one layer");
    }
    counts.push_back(next - first);
  }
  if (counts.empty()) {
    throw stages.unexpected("at least one stage");
  }
  return counts;
}

// One replica of a stage: [[[device, number, zone]], tensor degree].
void read_replica(const JsonValue& replica, SailorRun& run) {
  const auto parts = replica.items();
  if (parts.size() != 2 || parts[0].size() != 1 || parts[0].items()[0].size() != 3) {
    throw replica.unexpected("[[[device, number of devices, zone]], tensor degree]");
  }
  const JsonValue device = parts[0].items()[0].items()[0];
  const int tensor = parts[1].as_int(1, kMostCount);
  if (run.device.empty()) {
    run.device = device.as_string();
    run.tensor = tensor;
  }
  if (device.as_string() != run.device) {
    throw device.unexpected(run.device + " as in the replicas before",
                            "mixed devices are not read");
  }
  if (tensor != run.tensor) {
    throw parts[1].unexpected(fmt::format("{} as in the replicas before", run.tensor),
                              "degrees that differ are not read");
  }
}

}  // namespace

SailorSizes sailor_sizes_from_json(const JsonValue& model) {
  SailorSizes sizes;
  for (const JsonMember& by_tensor : model.members()) {
    auto& layers = sizes[count_key(by_tensor, "a tensor degree such as \"2\"", 1)];
    std::map<int, SailorLayerSize> numbered;
    for (const JsonMember& layer : by_tensor.value.members()) {
      SailorLayerSize size;
      size.parameter_bytes = bytes_at(layer.value, "params_bytes");
      size.output_bytes = bytes_at(layer.value, "act_output_bytes");
      size.kept_bytes = bytes_at(layer.value, "act_mem_bytes");
      numbered[count_key(layer, "the number of a layer", 0)] = size;
    }
    for (const auto& [number, size] : numbered) {
      if (number != static_cast<int>(layers.size())) {
        throw by_tensor.value.error(
            fmt::format("layer {} is missing; number the layers from 0 on", layers.size()));
      }
      layers.push_back(size);
    }
    if (layers.empty()) {
      throw by_tensor.value.unexpected("at least one layer");
    }
  }
  return sizes;
}

LayerProfile sailor_layers_of(const JsonValue& file,
                              const std::string& model,
                              const std::string& device) {
  const auto of_model = file.find(model);
  return sailor_profile_from_json(of_model ? of_model->at(device) : file);
}

SailorLinks sailor_links_from_json(const JsonValue& file, const std::string& device) {
  SailorLinks links;
  for (const JsonMember& fitted : file.at("inter").at(device).members()) {
    const int devices = count_key(fitted, "a number of devices such as \"4\"", 1);
    const auto parts = fitted.value.items();
    if (parts.size() != 2 || parts[0].size() != 3) {
      throw fitted.value.unexpected("[[a, b, c], most bytes per second]");
    }
    const auto factors = parts[0].items();
    SailorLink link;
    link.a = factors[0].as_double(-kMostFactor, kMostFactor);
    link.b = factors[1].as_double(-kMostFactor, kMostFactor);
    link.c = factors[2].as_double(-kMostFactor, kMostFactor);
    link.most = BytesPerSecond(parts[1].as_double(0, kMostRate));
    for (std::int64_t bytes = 1; bytes <= std::int64_t{1} << 50; bytes *= 2) {
      if (!(link.bandwidth(static_cast<double>(bytes)).count >= 1)) {
        throw fitted.value.error(fmt::format(
            "the fitted bandwidth of a message of {} is below 1 B/s", format_bytes(Bytes(bytes))));
      }
    }
    links[devices] = link;
  }
  return links;
}

SailorRun sailor_run_from_json(const JsonValue& file) {
  const JsonValue pipelines = file.at("pipeline_list");
  if (pipelines.size() != 1) {
    throw pipelines.unexpected("one pipeline");
  }
  const JsonValue pipeline = pipelines.items()[0];
  SailorRun run;
  run.layers = layers_of_stages(pipeline.at("layers_per_stage"));
  const JsonValue stages = pipeline.at("tmp_per_stage");
  const JsonValue degrees = pipeline.at("dp");
  if (stages.size() != std::ssize(run.layers) || degrees.size() != std::ssize(run.layers)) {
    throw stages.error(
        fmt::format("expected {} stages as in layers_per_stage, found {} here and {} in 'dp'",
                    run.layers.size(),
                    stages.size(),
                    degrees.size()));
  }
  run.data = degrees.items()[0].as_int(1, kMostCount);
  for (const JsonValue& degree : degrees.items()) {
    if (degree.as_int() != run.data) {
      throw degree.unexpected(fmt::format("{} as in the first stage", run.data),
                              "degrees that differ are not read");
    }
  }
  for (const JsonValue& stage : stages.items()) {
    if (stage.size() != run.data) {
      throw stage.unexpected(fmt::format("{} replicas as in 'dp'", run.data));
    }
    for (const JsonValue& replica : stage.items()) {
      read_replica(replica, run);
    }
  }
  run.microbatch = file.at("mbs").as_int(1, kMostCount);
  run.batch = file.at("gbs").as_int(1, kMostCount);
  const std::int64_t at_once = std::int64_t{run.microbatch} * run.data;
  if (run.batch % at_once != 0) {
    throw file.at("gbs").unexpected(
        fmt::format("a multiple of {} (micro-batch times replicas)", at_once));
  }
  if (const auto step = file.find("real")) {
    run.measured_step = Seconds(step->as_double(0, kLongestStep));
  }
  if (const auto memory = file.find("max_mem")) {
    run.measured_memory = Bytes(static_cast<std::int64_t>(memory->as_double(0, kLargestDevice)));
  }
  return run;
}

}  // namespace shardwise
