#include "io/calculon_system.h"

#include <fmt/format.h>

namespace shardwise {

namespace {

constexpr double kLeast = 1e-6;  // of a rate, in the file's unit
constexpr double kMost = 1e9;
constexpr int kMostDevices = 1 << 24;

// [[least size, efficiency], ...], largest size first, the last one 0. `unit`: of the sizes.
std::vector<EfficiencyStep> steps_from_json(const JsonValue& table, double unit) {
  std::vector<EfficiencyStep> steps;
  for (const JsonValue& row : table.items()) {
    if (row.size() != 2) {
      throw row.unexpected("[least size, efficiency]");
    }
    const auto parts = row.items();
    const double least = unit * parts[0].as_double(0, kMost);
    if (!steps.empty() && !(least < steps.back().least)) {
      throw parts[0].unexpected("a size below the one before", "list the largest size first");
    }
    steps.push_back({least, parts[1].as_double(1e-6, 1)});
  }
  if (steps.empty() || steps.back().least != 0) {
    throw table.unexpected("a last row of size 0, such as [0, 0.1]");
  }
  return steps;
}

CalculonEngine processor_from_json(const JsonValue& processor) {
  const JsonValue half = processor.at("float16");
  return {1e12 * half.at("tflops").as_double(kLeast, kMost),
          steps_from_json(half.at("gflops_efficiency"), 1e9)};
}

CalculonNetwork::Operation operation_from_json(const JsonValue& operations, std::string_view key) {
  const JsonValue value = operations.at(key);
  if (value.size() != 2) {
    throw value.unexpected("[factor, offset]");
  }
  const auto parts = value.items();
  CalculonNetwork::Operation operation;
  operation.factor = parts[0].as_double(kLeast, kMost);
  // With n >= 2 ranks (1 + offset / n) stays positive.
  operation.offset = parts[1].is_null() ? 0 : parts[1].as_double(-1.5, kMost);
  return operation;
}

CalculonNetwork network_from_json(const JsonValue& value) {
  value.reject_unknown_keys(
      {"bandwidth", "efficiency", "size", "latency", "ops", "must_be_filled", "processor_usage"});
  CalculonNetwork network;
  network.bytes_per_second = 1e9 * value.at("bandwidth").as_double(kLeast, kMost);
  network.efficiency = value.at("efficiency").as_double(1e-6, 1);
  network.latency = value.at("latency").as_double(0, 1);
  network.size = value.at("size").as_int(1, kMostDevices);
  const JsonValue operations = value.at("ops");
  network.message = operation_from_json(operations, "p2p");
  network.all_gather = operation_from_json(operations, "all_gather");
  network.reduce_scatter = operation_from_json(operations, "reduce_scatter");
  network.all_reduce = operation_from_json(operations, "all_reduce");
  return network;
}

}  // namespace

bool is_calculon_system(const JsonValue& file) {
  return file.is_object() && file.find("matrix") && file.find("networks");
}

CalculonSystem calculon_system_from_json(const JsonValue& file, const std::string& name) {
  file.reject_unknown_keys({"matrix", "vector", "mem1", "mem2", "processing_mode", "networks"});
  CalculonSystem system;
  system.name = name;
  system.matrix = processor_from_json(file.at("matrix"));
  system.vector = processor_from_json(file.at("vector"));
  const JsonValue memory = file.at("mem1");
  // Files that take memory as endless state a device of 80e9 GiB.
  system.memory_bytes =
      1024.0 * 1024 * 1024 * std::min(memory.at("GiB").as_double(1e-3, 1e12), 1e6);
  system.memory = {1e9 * memory.at("GBps").as_double(kLeast, kMost),
                   steps_from_json(memory.at("MB_efficiency"), 1e6)};
  const JsonValue mode = file.at("processing_mode");
  if (mode.as_string() != "no_overlap" && mode.as_string() != "roofline") {
    throw mode.unexpected("\"no_overlap\" or \"roofline\"");
  }
  system.adds = mode.as_string() == "no_overlap";
  for (const JsonValue& network : file.at("networks").items()) {
    system.networks.push_back(network_from_json(network));
    if (system.networks.size() > 1 &&
        system.networks.back().size <= system.networks[system.networks.size() - 2].size) {
      throw network.at("size").unexpected("more devices than the network inside it joins");
    }
  }
  if (system.networks.empty()) {
    throw file.at("networks").unexpected("at least one network");
  }
  return system;
}

CalculonSystem read_calculon_system(const std::filesystem::path& path) {
  return calculon_system_from_json(read_json_file(path), path.stem().string());
}

}  // namespace shardwise
