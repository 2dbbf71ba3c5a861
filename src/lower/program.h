// What one rank does in one step: plain data without torch. It can be printed, checked for
// deadlock, counted, simulated and executed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/layer_body.h"
#include "graph/tied.h"

namespace shardwise {

using BufferId = int;

enum class BufferRole { kActivation, kGradient, kStatistic, kTokens, kTargets, kLoss };

// A local tensor of one micro-batch. Lives from the first instruction that writes it (a receive:
// from its post) to the instruction that frees it.
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

// A parameter as this rank holds it. Both uses of a shared tied parameter (graph/tied.h) are one
// LocalParameter, in the name of the owner; the alias of an exchanged one is a LocalParameter of
// its own, without optimizer state.
struct LocalParameter {
  int layer = 0;
  int op = 0;
  int index = 0;                     // which of the op's parameters
  std::vector<ParameterPlace> uses;  // all ops that use it; the first is (layer, op, index)
  std::string name;                  // full: layer.prefix + tensor name
  std::vector<std::int64_t> global_shape;
  std::vector<std::int64_t> shape;  // local, padded
  Box box;                          // what it is of the whole (true size)
  bool decays = true;
  // Devices that hold equal values and add their gradients (mesh axes where the gradient is
  // partial).
  int group = -1;            // index into Program::groups, -1: nobody
  int reduction_degree = 1;  // ranks of that group
  int index_in_group = 0;
  // Whether this rank's elements (its share of them, with sharded state) count in the global norm
  // and go into checkpoints: each element on exactly one rank. Always false for an exchanged alias.
  bool counts_in_norm = true;
  StateSharding state_sharding = StateSharding::kNone;
  std::int64_t elements = 0;  // of the local shape
  std::int64_t chunk = 0;     // ceil(elements / reduction_degree): a share of state
  int tied_owner = -1;        // exchanged alias: index into Program::tied; else -1

  bool has_optimizer_state() const { return tied_owner < 0; }
};

enum class InstructionKind {
  kLoad,               // writes the token / target buffer of a micro-batch from the data
  kCompute,            // op kernel, `direction`
  kCollective,         // `collective` over `group`; kSlice: local, no group
  kAccumulate,         // writes[0] = reads[0] + reads[1]
  kCopy,               // box of transfers[transfer] to that of transfers[transfer + 1]: a boundary
                       // between chunks of one rank; reads and writes name the two buffers
  kPostSend,           // `transfer`, reads its buffer, which may be freed after the kWait
  kPostReceive,        // `transfer`, writes its buffer, which is valid after the kWait
  kWait,               // for `transfer`
  kGatherParameters,   // ZeRO 3: all-gather `parameters` of (layer, op) before use
  kReleaseParameters,  // ZeRO 3: free the gathered copy
  kReduceGradients,    // starts the reduction of the gradients of `parameters` over their groups:
                       // all-reduce (none), reduce-scatter (optimizer; gradients and parameters:
                       // every micro-batch). Runs on the communication thread, in program order;
                       // one collective for each (group, state sharding), each parameter padded to
                       // reduction_degree * chunk elements
  kWaitReductions,     // all started reductions are done
  kTiedGradient,       // `tied`: alias's reduced gradient travels to the owner and is added to its
                       // reduced gradient. Posts all messages, then waits for all
  kGradientNorm,       // global norm (control message of all ranks), clipping factor; reads the
                       // losses of all micro-batches (loss ranks)
  kUpdate,             // AdamW on this rank's share of `parameters`
  kGatherUpdated,      // ZeRO 1 and 2: all-gather the updated `parameters`
  kTiedParameter,      // `tied`: owner's new values travel to the alias, like kTiedGradient
};

struct Instruction {
  InstructionKind kind = InstructionKind::kCompute;
  int microbatch = -1;
  int layer = -1;
  int op = -1;
  Direction direction = Direction::kForward;
  bool again = false;  // recomputation: a step of forward run before backward
  CollectiveStep collective;
  int group = -1;                // index into Program::groups (kCollective)
  std::vector<BufferId> reads;   // order as LayerStep
  std::vector<BufferId> writes;  // order as LayerStep; -1: absent
  std::vector<BufferId> frees;   // dead after this instruction; in_place included
  BufferId in_place = -1;        // its storage becomes that of writes[0]
  Bytes workspace{0};            // kCompute: largest temporary memory
  int internal = -1;             // kCompute: index into Program::internal, -1: none
  int transfer = -1;             // index into Program::transfers
  int tied = -1;                 // index into Program::tied
  std::vector<int> parameters;   // indices into Program::parameters
};

// One message of a stage boundary, between this rank and `peer`: the part `box` (local indices of
// `buffer`) of a boundary tensor. Tags are unique among messages of one direction between two ranks
// in a step. Both transfers of a kCopy have peer = this rank.
struct Transfer {
  bool sends = false;
  int peer = 0;
  int tag = 0;
  BufferId buffer = -1;
  Box box;
  Bytes bytes{0};
  int passage = -1;  // 2 k forward, 2 k + 1 backward between virtual stages k and k + 1
};

// Redistribution of an exchanged tied parameter (values: owner -> alias; gradients: alias -> owner)
// as messages between ranks, boxes in local indices of the parameter. peer may be this rank itself:
// a copy, listed as a send and as a receive with one tag.
struct TiedMessage {
  bool sends = false;
  int peer = 0;
  int tag = 0;
  Box box;
  Bytes bytes{0};
};
struct TiedExchange {
  // Indices into Program::parameters; -1: not on this rank. Gradients are sent from the alias and
  // received by the owner, values the other way round.
  int owner_parameter = -1;
  int alias_parameter = -1;
  int number = 0;                               // index into Graph::tied
  std::vector<TiedMessage> gradient_messages;   // fp32
  std::vector<TiedMessage> parameter_messages;  // compute type
};

struct Program {
  int rank = 0;
  int stage = -1;  // -1: an idle device, whose only instruction is kGradientNorm
  Precision precision = Precision::kFloat32;
  Mesh mesh;
  std::vector<std::vector<int>> groups;  // global ranks, in order; this rank is in each
  // groups index of this rank's group along every set of mesh axes (bit m = axis m); -1: size 1.
  std::vector<int> group_of_axes;  // 8 entries
  std::vector<Buffer> buffers;
  std::vector<LocalParameter> parameters;
  std::vector<Transfer> transfers;
  std::vector<TiedExchange> tied;
  std::vector<std::vector<InternalCollective>> internal;  // collectives inside kernels
  std::vector<Instruction> instructions;
};

}  // namespace shardwise
