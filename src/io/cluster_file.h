// Clusters that a user names: a preset, a YAML file, or a profile of a machine.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "cost/cost_table.h"
#include "cost/measured_table.h"
#include "graph/cluster.h"

namespace shardwise {

// A cluster and the times to plan with.
struct LoadedCluster {
  Cluster cluster;
  std::optional<MeasuredTable> table;      // of a profile; else times are modelled
  std::shared_ptr<const CostTable> costs;  // shared: plans of one command use one table
};

// `argument`: "dgx-h100:16" (cluster_preset.h), a profile (.json), a cluster file (.yaml, .yml) or
// a system file of Calculon with a number of devices ("a100.json:64", calculon_system.h; plans
// priced by it are not written, for a plan file could not price them again). Throws InputError for
// anything else, naming what was expected and the nearest preset.
LoadedCluster load_cluster(const std::string& argument);

// Prices the cluster by its table if there is one, else from the device types' rates.
LoadedCluster with_costs(Cluster cluster, std::optional<MeasuredTable> table);

// The YAML form (docs/file_formats.md). Every quantity carries its unit. Throws InputError with
// file, line and key.
Cluster read_cluster_file(const std::filesystem::path& path);
Cluster parse_cluster_yaml(const std::string& text, const std::string& file_name);

// Profile files: a cluster and its measured table.
void write_profile(const std::filesystem::path& path,
                   const Cluster& cluster,
                   const MeasuredTable& table);
LoadedCluster read_profile(const std::filesystem::path& path);
LoadedCluster parse_profile(const std::string& text, const std::string& file_name);

}  // namespace shardwise
