// A cluster as programs write it (inside plans and profiles): plain numbers in base units.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "files/json.h"
#include "graph/cluster.h"

namespace shardwise {

nlohmann::ordered_json cluster_to_json(const Cluster& cluster);
// Throws InputError with the place for a malformed cluster (cluster_violation included).
Cluster cluster_from_json(const JsonValue& value);

// What is wrong with a cluster, as one sentence; empty if sound: at least one device, known types,
// levels whose sizes multiply to the number of devices, rates that are either not stated (zero)
// or plausible, a reserve within the memory.
std::string cluster_violation(const Cluster& cluster);

}  // namespace shardwise
