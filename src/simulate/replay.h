// The events of a step: scripts run against each other. Internal to simulate.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "simulate/network.h"
#include "simulate/script.h"

namespace shardwise::internal {

// A script with its ends tied to those of the others. Actor a runs cast[a]; it stands for one or
// more ranks.
struct Role {
  Script script;
  std::vector<int> meetings;  // Script::meetings -> index into Cast::meetings
  std::vector<int> messages;  // Script::messages -> index into Cast::messages; -1: a peer that is
                              // not there
};

struct Cast {
  std::vector<Role> roles;
  std::vector<std::vector<int>> meetings;  // actors, ascending
  std::vector<Message> messages;
  std::vector<std::vector<std::pair<int, int>>> node_mixes;  // see Network
};

struct ActorTimes {
  Picoseconds compute{0};
  Picoseconds task_compute{0};
  Picoseconds collectives{0};
  Picoseconds reductions{0};
  Picoseconds point_to_point{0};
  Picoseconds first_begin{0};
  Picoseconds last_end{0};
  Picoseconds end{0};
};

struct ReplayResult {
  std::vector<ActorTimes> times;        // by actor
  std::optional<std::string> deadlock;  // see Simulation
  std::vector<Slice> slices;
  std::vector<MemorySample> memory;
};

// Runs a step from time 0 until all scripts end or none can go on.
ReplayResult replay(const Cast& cast, InstructionPrices& prices);

}  // namespace shardwise::internal
