// Reads Piper's input files (msr-fiddle/piper, inputs/*.json).
//
//   PiperProblem problem = read_piper_problem("bert32a100.json");
//   problem.devices = 64;  // files carry placeholders: experiments set devices and memory
//
// Keys: docs/file_formats.md. Throws InputError with file, line and key for negative numbers, edges
// to unknown nodes or twice, a sync time missing for an edge, cycles.
#pragma once

#include <filesystem>

#include "cost/piper_problem.h"
#include "files/json.h"

namespace shardwise {

PiperProblem read_piper_problem(const std::filesystem::path& path);
PiperProblem piper_problem_from_json(const JsonValue& file);

}  // namespace shardwise
