#include "io/layer_profile.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string>

namespace shardwise {

namespace {

constexpr double kLongest = 1e6;     // seconds of a layer
constexpr double kLargestMb = 1e9;   // of a layer
constexpr int kMostInKey = 1 << 20;  // micro-batch, degree

int number_key(const JsonMember& member, const char* what, int least) {
  int number = 0;
  const std::string& key = member.key;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), number);
  if (error != std::errc() || end != key.data() + key.size() || number < least ||
      number > kMostInKey) {
    throw member.value.error(fmt::format("expected {} as key", what));
  }
  return number;
}

ProfiledLayer sailor_layer(const JsonValue& value) {
  const auto times = value.items();
  if (times.size() != 3) {
    throw value.unexpected("[forward, backward, update] in seconds");
  }
  ProfiledLayer layer;
  layer.forward = Seconds(times[0].as_double(0, kLongest));
  layer.forward_backward = *layer.forward + Seconds(times[1].as_double(0, kLongest));
  layer.update = Seconds(times[2].as_double(0, kLongest));
  return layer;
}

}  // namespace

LayerProfile sailor_profile_from_json(const JsonValue& file) {
  LayerProfile profile;
  for (const JsonMember& by_microbatch : file.members()) {
    const int microbatch = number_key(by_microbatch, "a micro-batch size such as \"4\"", 1);
    for (const JsonMember& by_tensor : by_microbatch.value.members()) {
      const int tensor = number_key(by_tensor, "a tensor degree such as \"2\"", 1);
      auto& layers = profile.layers[{microbatch, tensor}];
      std::map<int, ProfiledLayer> numbered;
      for (const JsonMember& by_layer : by_tensor.value.members()) {
        numbered[number_key(by_layer, "the number of a layer", 0)] = sailor_layer(by_layer.value);
      }
      for (const auto& [number, layer] : numbered) {
        if (number != static_cast<int>(layers.size())) {
          throw by_tensor.value.error(
              fmt::format("layer {} is missing; number the layers from 0 on", layers.size()));
        }
        layers.push_back(layer);
      }
      if (layers.empty()) {
        throw by_tensor.value.unexpected("at least one layer");
      }
    }
  }
  return profile;
}

LayerProfile read_sailor_profile(const std::filesystem::path& path) {
  return sailor_profile_from_json(read_json_file(path));
}

void add_metis_profile(const JsonValue& file, int microbatch, int tensor, LayerProfile& profile) {
  const JsonValue times = file.at("execution_time").at("layer_compute_total_ms");
  const JsonValue sizes = file.at("execution_memory").at("layer_memory_total_mb");
  const auto milliseconds = times.items();
  const auto megabytes = sizes.items();
  if (milliseconds.empty()) {
    throw times.unexpected("at least one layer");
  }
  if (megabytes.size() != milliseconds.size()) {
    throw sizes.unexpected(
        fmt::format("{} layers, as many as layer_compute_total_ms", milliseconds.size()));
  }
  // The update is one figure for the model; layers share it by their parameters.
  const double update_s =
      1e-3 * file.at("execution_time").at("optimizer_time_ms").as_double(0, 1e9);
  const JsonValue counted = file.at("model").at("parameters").at("parameters_per_layer_bytes");
  const auto parameters = counted.items();
  if (parameters.size() != milliseconds.size()) {
    throw counted.unexpected(
        fmt::format("{} layers, as many as layer_compute_total_ms", milliseconds.size()));
  }
  double total = 0;
  for (const JsonValue& bytes : parameters) {
    total += bytes.as_double(0, 1e18);
  }
  std::vector<ProfiledLayer> layers;
  for (std::size_t l = 0; l < milliseconds.size(); ++l) {
    ProfiledLayer layer;
    layer.forward_backward = Seconds(1e-3 * milliseconds[l].as_double(0, 1e3 * kLongest));
    layer.update = Seconds(total > 0 ? update_s * parameters[l].as_double() / total : 0);
    layer.memory = Bytes(std::llround(megabytes[l].as_double(0, kLargestMb) * 1024 * 1024));
    layers.push_back(layer);
  }
  profile.layers[{microbatch, tensor}] = std::move(layers);
}

}  // namespace shardwise
