// Reads system files of Calculon (calculon-ai/calculon, systems/*.json).
//
//   CalculonSystem system = read_calculon_system("a100_80g.json");
//   Cluster cluster = system.cluster(64);
//   CalculonTable table(system, cluster);
//
// Keys: docs/file_formats.md. Throws InputError with file, line and key for missing or unknown
// keys, rates that are not positive, efficiencies outside of (0, 1], tables of efficiency that do
// not fall to size 0, networks that do not grow.
#pragma once

#include <filesystem>

#include "cost/calculon_table.h"
#include "files/json.h"

namespace shardwise {

CalculonSystem read_calculon_system(const std::filesystem::path& path);
CalculonSystem calculon_system_from_json(const JsonValue& file, const std::string& name);

// Whether a JSON document is such a file, by its keys.
bool is_calculon_system(const JsonValue& file);

}  // namespace shardwise
