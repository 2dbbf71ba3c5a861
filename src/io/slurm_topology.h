// Reads Slurm's topology.conf (plugins topology/tree and topology/block): which nodes share a
// switch. The file has no speeds worth believing: LinkSpeed is free text that Slurm ignores.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace shardwise {

struct SwitchTree {
  std::vector<std::string> nodes;  // neighbours in the tree are neighbours here
  // Innermost first: nodes of a leaf switch or block, then switches of each higher one.
  std::vector<int> fan_out;
};

// Names are hostlist expressions: "n[0-3,7],gpu[01-16]". Throws InputError with file and line for
// unknown keys, switches without parts, twice named or missing parts, several roots, and trees
// whose switches of one height have unequal numbers of parts: a cluster's levels are uniform.
SwitchTree read_slurm_topology(const std::filesystem::path& path);
SwitchTree parse_slurm_topology(const std::string& text, const std::string& file_name);

// The names of a hostlist expression in order, leading zeros kept. Throws InputError with `where`
// for unbalanced brackets, empty or falling ranges, more than 65,536 names.
std::vector<std::string> expand_hostlist(const std::string& expression, const std::string& where);

}  // namespace shardwise
