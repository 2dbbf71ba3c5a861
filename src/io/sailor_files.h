// Reads what Sailor (eth-easl/sailor) knows of a model, a cluster and a run; layer times are read
// by io/layer_profile.h.
//
//   const JsonValue sizes = read_json_file("llm_info.json");
//   SailorSizes opt = sailor_sizes_from_json(sizes.at("OPT-350"));
//   SailorLinks links = sailor_links_from_json(read_json_file("network_coeffs_all_homo.json"),
//   "GH-96"); SailorRun run = sailor_run_from_json(read_json_file("plan_config_N16_D8.json"));
//
// Keys: docs/file_formats.md. Each throws InputError with file, line and key for what is missing,
// negative, not finite or does not fit together.
#pragma once

#include <string>

#include "cost/sailor_run.h"
#include "files/json.h"

namespace shardwise {

// {tensor degree: {layer: {params_bytes, act_output_bytes, act_mem_bytes, ...}}} of one model.
SailorSizes sailor_sizes_from_json(const JsonValue& model);

// Layer times of one model on one device: a file of just these (sailor_profile_from_json), or one
// of several models, {model: {device: ...}}.
LayerProfile sailor_layers_of(const JsonValue& file,
                              const std::string& model,
                              const std::string& device);

// {"inter": {device: {devices: [[a, b, c], bytes per second]}}}: bandwidths between two nodes.
// Bandwidths that are not positive somewhere are refused.
SailorLinks sailor_links_from_json(const JsonValue& file, const std::string& device);

// A plan of one pipeline with its measured figures. Refused: several pipelines, mixed devices,
// degrees that differ by stage, layers not numbered through from 0, a batch that micro-batches and
// replicas do not divide.
SailorRun sailor_run_from_json(const JsonValue& file);

}  // namespace shardwise
