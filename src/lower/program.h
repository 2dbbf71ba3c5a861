// What one rank does in one step: plain data without torch. It can be printed, checked for deadlock,
// counted, simulated and executed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/layer_body.h"

namespace shardwise {

using BufferId = int;

enum class BufferRole { kActivation, kGradient, kStatistic, kTokens, kTargets, kLoss };

struct Buffer {
  BufferRole role = BufferRole::kActivation;
  int layer = -1;
  int microbatch = -1;
  TensorIndex tensor = -1;
  std::vector<std::int64_t> shape;  // local
  Layout layout{};                  // on the stage's mesh
  ElementType type = ElementType::kCompute;
  Bytes bytes{0};
};

// A parameter as this rank holds it.
struct LocalParameter {
  int layer = 0;
  int op = 0;
  int index = 0;                            // which of the op's parameters
  std::string name;                         // full: layer.prefix + tensor name
  std::vector<std::int64_t> global_shape;
  std::vector<std::int64_t> shape;          // local, padded
  Box box;                                  // what it is of the whole (true size)
  bool decays = true;
  // Devices that hold equal values and add their gradients (mesh axes where the gradient is partial).
  int group = -1;                           // index into Program::groups, -1: nobody
  int reduction_degree = 1;                 // ranks of that group
  int index_in_group = 0;
  // True on exactly one rank among those that hold the same elements: it counts them in the global
  // norm, writes them to checkpoints.
  bool counts_in_norm = true;
  StateSharding state_sharding = StateSharding::kNone;
  std::int64_t elements = 0;                // of the local shape
  std::int64_t chunk = 0;                   // ceil(elements / reduction_degree): a rank's share of state
  int tied_owner = -1;                      // alias: see TiedExchange; owner: -1
};

enum class InstructionKind {
  kLoad,               // writes token / target buffer of a micro-batch from the data
  kCompute,            // op kernel, `direction`
  kCollective,         // `collective` over `group`
  kAccumulate,         // writes[0] = reads[0] + reads[1]
  kPostSend,           // `transfer`; the buffer may be reused after its kWait
  kPostReceive,        // `transfer`; the buffer is valid after its kWait
  kWait,               // for `transfer`
  kGatherParameters,   // ZeRO 3: all-gather the parameters of (layer, op) before use
  kReleaseParameters,  // ZeRO 3: free the gathered copy
  kReduceGradients,    // (layer, op): starts the reduction of its parameters' gradients over their
                       // groups: all-reduce (none), reduce-scatter (optimizer; gradients and
                       // parameters: every micro-batch). Runs on the communication thread
  kWaitReductions,     // all started reductions are done
  kTiedGradient,       // `tied`: alias's gradient travels to the owner and is added
  kGradientNorm,       // global norm (control message), clipping factor
  kUpdate,             // AdamW on this rank's share of (layer, op)
  kGatherUpdated,      // ZeRO 1 and 2: all-gather the updated parameters of (layer, op)
  kTiedParameter,      // `tied`: owner's new values travel to the alias
};

struct Instruction {
  InstructionKind kind = InstructionKind::kCompute;
  int microbatch = -1;
  int layer = -1;
  int op = -1;
  Direction direction = Direction::kForward;
  CollectiveStep collective;
  int group = -1;               // index into Program::groups (kCollective)
  std::vector<BufferId> reads;  // order as LayerStep
  std::vector<BufferId> writes; // order as LayerStep; -1: absent
  std::vector<BufferId> frees;  // dead after this instruction
  BufferId in_place = -1;
  int transfer = -1;            // index into Program::transfers
  int tied = -1;                // index into Program::tied
};

// One message of a stage boundary, between this rank and `peer`: the part `box` (local indices of
// `buffer`) of a boundary tensor. Tags are unique among messages in flight between two ranks.
struct Transfer {
  bool sends = false;
  int peer = 0;
  int tag = 0;
  BufferId buffer = -1;
  Box box;
  Bytes bytes{0};
};

// Redistribution of a tied parameter (values: owner -> alias; gradients: alias -> owner) as messages
// between ranks, boxes in local indices of the parameter; peer may be this rank itself (a copy).
struct TiedMessage {
  bool sends = false;
  int peer = 0;
  int tag = 0;
  Box box;
  Bytes bytes{0};
};
struct TiedExchange {
  int parameter = -1;  // index into Program::parameters on this rank
  bool owner = false;
  std::vector<TiedMessage> gradient_messages;
  std::vector<TiedMessage> parameter_messages;
};

struct Program {
  int rank = 0;
  int stage = 0;
  Mesh mesh;
  std::vector<std::vector<int>> groups;  // global ranks, in order; this rank is in each
  // groups index of this rank's group along every set of mesh axes (bit m = axis m); -1: size 1.
  std::vector<int> group_of_axes;        // 8 entries
  std::vector<Buffer> buffers;
  std::vector<LocalParameter> parameters;
  std::vector<Transfer> transfers;
  std::vector<TiedExchange> tied;
  std::vector<Instruction> instructions;
};

}  // namespace shardwise
