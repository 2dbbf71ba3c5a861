// Clusters by name: "dgx-h100:N" (N nodes; names: cost/device_preset.h) and "local:N" (N unprofiled
// ranks on this machine).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/cluster.h"

namespace shardwise {

// The preset, or nothing if `text` is not of the form name:number with a known name. Throws
// InputError if the number is not 1 to 65536 (local: 1024).
std::optional<Cluster> cluster_preset(const std::string& text);

std::vector<std::string> preset_names();

// `ranks` ranks on this machine: an equal share of its memory each, rates of a common core.
Cluster local_cluster(int ranks);

}  // namespace shardwise
