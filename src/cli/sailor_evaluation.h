// `shardwise evaluate RUN.json --layer-profile ...`: a run of Sailor's framework from its own
// layer profiles.
#pragma once

#include <string>

namespace shardwise {

struct SailorFlags {
  std::string run;
  std::string model;          // key in the files of several models
  std::string layer_profile;  // times
  std::string layer_sizes;
  std::string bandwidths;
  std::string process_memory = "5 GiB";  // as the presets of data-center devices reserve
};

// Prints time and memory by stage, and the difference to what the file says was measured; one JSON
// document with `json`. Returns the exit code. Throws InputError for missing flags and bad files.
int evaluate_sailor_run(const SailorFlags& flags, bool json);

}  // namespace shardwise
