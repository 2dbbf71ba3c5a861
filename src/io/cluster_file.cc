#include "io/cluster_file.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/errors.h"
#include "core/text.h"
#include "core/version.h"
#include "cost/modelled_table.h"
#include "files/atomic_file.h"
#include "files/json.h"
#include "files/json_writer.h"
#include "io/calculon_system.h"
#include "io/cluster_json.h"
#include "io/cluster_preset.h"
#include "io/table_json.h"

namespace shardwise {

namespace {

constexpr const char* kFormat = "shardwise-profile";
constexpr int kVersion = 1;

LoadedCluster profile_from_json(const JsonValue& value) {
  if (is_calculon_system(value)) {
    throw value.error(
        "a system file of Calculon needs its number of devices, such as FILE.json:64");
  }
  value.reject_unknown_keys({"format", "version", "written_by", "cluster", "table"});
  const JsonValue format = value.at("format");
  if (format.as_string() != kFormat) {
    throw format.unexpected(fmt::format("\"{}\"", kFormat),
                            "a CLUSTER is a preset, a YAML file or a profile");
  }
  value.at("version").as_int(kVersion, kVersion);
  return with_costs(cluster_from_json(value.at("cluster")), table_from_json(value.at("table")));
}

// "system.json:64", or nothing if there is no number of devices.
std::optional<LoadedCluster> load_calculon_system(const std::string& argument) {
  const std::size_t colon = argument.rfind(".json:");
  if (colon == std::string::npos) {
    return std::nullopt;
  }
  const std::string count = argument.substr(colon + 6);
  int devices = 0;
  const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), devices);
  if (error != std::errc() || end != count.data() + count.size() || devices < 1 ||
      devices > 1 << 20) {
    throw InputError(
        fmt::format("cluster \"{}\"", argument),
        fmt::format("expected a number of devices after the colon, found \"{}\"", count));
  }
  LoadedCluster loaded;
  const CalculonSystem system = read_calculon_system(argument.substr(0, colon + 5));
  loaded.cluster = system.cluster(devices);
  loaded.costs = std::make_shared<CalculonTable>(system, loaded.cluster);
  return loaded;
}

}  // namespace

LoadedCluster with_costs(Cluster cluster, std::optional<MeasuredTable> table) {
  LoadedCluster loaded;
  loaded.cluster = std::move(cluster);
  loaded.table = std::move(table);
  if (loaded.table) {
    loaded.costs = std::make_shared<MeasuredCostTable>(*loaded.table);
  } else {
    loaded.costs = std::make_shared<ModelledTable>(loaded.cluster);
  }
  return loaded;
}

LoadedCluster load_cluster(const std::string& argument) {
  if (std::optional<LoadedCluster> system = load_calculon_system(argument)) {
    return std::move(*system);
  }
  if (std::optional<Cluster> preset = cluster_preset(argument)) {
    return with_costs(std::move(*preset), std::nullopt);
  }
  const std::filesystem::path path(argument);
  if (path.extension() == ".json") {
    return read_profile(path);
  }
  if (path.extension() == ".yaml" || path.extension() == ".yml") {
    return with_costs(read_cluster_file(path), std::nullopt);
  }
  const std::string name = argument.substr(0, argument.find(':'));
  const std::vector<std::string> names = preset_names();
  const std::optional<std::string> nearest = closest_match(name, names);
  throw InputError(
      fmt::format("cluster \"{}\"", argument),
      fmt::format("expected a preset with its number of nodes ({}:N), a cluster file (.yaml) or a "
                  "profile (.json){}",
                  join(names, ":N, "),
                  nearest ? fmt::format("; did you mean {}:1?", *nearest) : std::string()));
}

void write_profile(const std::filesystem::path& path,
                   const Cluster& cluster,
                   const MeasuredTable& table) {
  const nlohmann::ordered_json json = {{"format", kFormat},
                                       {"version", kVersion},
                                       {"written_by", fmt::format("shardwise {}", version())},
                                       {"cluster", cluster_to_json(cluster)},
                                       {"table", table_to_json(table)}};
  write_file_atomically(path, to_json_text(json));
}

LoadedCluster read_profile(const std::filesystem::path& path) {
  return profile_from_json(read_json_file(path));
}

LoadedCluster parse_profile(const std::string& text, const std::string& file_name) {
  return profile_from_json(parse_json(text, file_name));
}

}  // namespace shardwise
