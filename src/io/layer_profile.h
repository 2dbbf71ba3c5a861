// Reads layer profiles of Sailor (eth-easl/sailor) and Metis (SamsungLabs/Metis).
//
//   LayerProfile profile = read_sailor_profile("OPT-350_A100-40_profile.json");
//   add_metis_profile(read_json_file("OPT-350_A100-40_mbs1_tmp2.json"), 1, 2, profile);
//
// Throws InputError with file, line and key for negative or missing values, layers that are not
// numbered from 0 on, and lists of different lengths.
#pragma once

#include <filesystem>

#include "cost/layer_profile.h"
#include "files/json.h"

namespace shardwise {

// {micro-batch: {tensor degree: {layer: [forward s, backward s, update s]}}}
LayerProfile read_sailor_profile(const std::filesystem::path& path);
LayerProfile sailor_profile_from_json(const JsonValue& file);

// One file of Metis's format: times of all layers, forward and backward together, and their memory,
// for one micro-batch size and tensor degree (which stand in the file's name). Replaces what
// `profile` has there.
void add_metis_profile(const JsonValue& file, int microbatch, int tensor, LayerProfile& profile);

}  // namespace shardwise
