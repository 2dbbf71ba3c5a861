// A program as the replay sees it: what takes how long and who must meet. Internal to simulate.
#pragma once

#include <cstdint>
#include <vector>

#include "simulate/instruction_prices.h"
#include "simulate/simulate.h"

namespace shardwise::internal {

enum class StepKind : std::uint8_t {
  kWork,            // `duration` on compute
  kMeet,            // a collective that the program waits for: `index` into Script::meetings
  kReduce,          // starts one beside the walk: `index` into Script::meetings
  kPost,            // `index` into Script::messages
  kWait,            // the same
  kWaitReductions,  // until all started ones are done
};

struct Step {
  StepKind kind = StepKind::kWork;
  bool is_task = false;  // a kernel of a micro-batch, not of the end of the step
  int index = -1;
  Picoseconds duration{0};
};

// Which collective: members of equal `channel` meet in the order in which they come.
enum class Channel : std::uint8_t { kMain, kReductions, kWorld };
struct Meeting {
  Channel channel = Channel::kMain;
  std::vector<int> members;  // global ranks; kWorld: empty, all of them
};

// One end of a message.
struct MessageEnd {
  bool sends = false;
  int peer = 0;
  int tag = 0;
  // 0: stage boundary, 1: tied gradient, 2: tied values; tags are unique within a kind.
  int kind = 0;
  int passage = -1;  // see rank_classes.h
  int ordinal = 0;   // among this rank's ends of equal direction in one run of the passage
  int microbatch = -1;
  std::int64_t bytes = 0;
};

// What a step is, for the timeline; parallel to Script::steps if a timeline is wanted.
struct StepLabel {
  Slice what;              // times, rank and stream unset
  Bytes memory_before{0};  // alive while the step runs, workspace included
  Bytes memory_after{0};
};

struct Script {
  int rank = 0;
  int stage = -1;
  int device_type = 0;
  std::vector<Step> steps;
  std::vector<Meeting> meetings;
  std::vector<MessageEnd> messages;
  std::vector<StepLabel> labels;
  Bytes state{0};
  Bytes peak_memory{0};
  bool sends_are_buffered = false;  // a message goes when it is sent
};

// Turns a program into a script. Consecutive kernels become one step unless a timeline is wanted.
Script make_script(const Program& program,
                   InstructionPrices& prices,
                   const SimulationOptions& options);

// Puts a wait behind every send (Overlap::pipeline off).
void make_sends_synchronous(Script& script);

}  // namespace shardwise::internal
