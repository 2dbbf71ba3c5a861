// A plan: everything a rank needs to know. Plain data; nothing here chooses.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/layout.h"

namespace shardwise {

// What the devices on which a parameter is replicated (with a partial gradient) share out among
// them: ZeRO 0-3 (Rajbhandari et al., SC'20). Each kind includes those before it.
enum class StateSharding { kNone, kOptimizer, kGradients, kParameters };

// kSelective: outputs of cheap ops (OpDefinition::cheap) are recomputed in backward.
// kFull: only the layer's input is kept; its whole forward, collectives included, runs again.
enum class Recompute { kNone, kSelective, kFull };

// In which order the stages run their passes: lower/schedule.h, one function each.
enum class Schedule {
  kGpipe,
  k1F1B,
  k1F1BEager,
  kInterleaved,
  kZeroBubbleH1,
  kZeroBubbleH2,
  kZeroBubble1P,
  kZeroBubble2P,
  kZeroBubbleV,
  kVHalf,
  kVMin,
  kDualPipeV,
};

struct ScheduleTraits {
  enum class Chunks { kOne, kAny, kTwo };
  enum class Placement { kLooped, kVShaped };  // see VirtualStage

  Schedule schedule;
  const char* name;
  Chunks chunks;
  Placement placement;
  bool splits_backward;   // input and weight gradients are tasks of their own
  bool has_cost_formula;  // docs/cost_model.md, "Step time"; the others are simulated only
};
const ScheduleTraits& traits_of(Schedule schedule);
// All schedules, in the order of the enumeration.
std::span<const ScheduleTraits> all_schedules();

enum class Precision { kFloat32, kBFloat16 };  // bf16: fp32 master weights, gradients and moments

struct LayerPlan {
  std::vector<AxisAssignment> op_axes;  // one for each op of the layer's block
  // Layout on the stage's mesh to which the layer's boundary input is brought (never partial): the
  // layer before converts to it, every use converts from it. Unused in the first layer of the
  // model.
  Layout input_layout{};
  StateSharding state_sharding = StateSharding::kNone;
  Recompute recompute = Recompute::kNone;

  bool operator==(const LayerPlan&) const = default;
};

// Consecutive layers that a stage runs without a break.
struct ChunkPlan {
  int first_layer = 0;
  std::vector<LayerPlan> layers;
  // Layout of the chunk's last boundary output on this stage's mesh when it is sent on (never
  // partial). Unused in the last chunk of the model.
  Layout output_layout{};

  int end_layer() const { return first_layer + static_cast<int>(layers.size()); }
  bool operator==(const ChunkPlan&) const = default;
};

struct StagePlan {
  std::vector<int> devices;  // global ranks in mesh order (row-major)
  Mesh mesh;
  // As many as the schedule runs (ScheduleTraits); which comes when in the model: VirtualStage.
  std::vector<ChunkPlan> chunks;

  bool operator==(const StagePlan&) const = default;
};

struct Plan {
  std::int64_t batch = 1;     // sequences of one step
  std::int64_t sequence = 1;  // tokens of a sequence
  int num_microbatches = 1;   // divides batch
  Schedule schedule = Schedule::k1F1B;
  Precision precision = Precision::kFloat32;
  // Order of a sequence's tokens everywhere in the run. 1: natural. c > 1: 2c chunks in the order
  // 0, 2c-1, 1, 2c-2, ... so that c contiguous shards do even causal work (context parallelism).
  int context_chunks = 1;
  std::vector<StagePlan> stages;

  std::int64_t microbatch() const { return batch / num_microbatches; }
  int num_stages() const { return static_cast<int>(stages.size()); }
  int num_chunks() const { return stages.empty() ? 1 : static_cast<int>(stages[0].chunks.size()); }
  bool operator==(const Plan&) const = default;
};

// Chunks in the order of the model are virtual stages: the k-th is chunk k / P of stage k mod P.
// V-shaped: the second half runs back, so k >= P is chunk 1 of stage 2 P - 1 - k.
struct VirtualStage {
  int stage = 0;
  int chunk = 0;
};
VirtualStage virtual_stage(const Plan& plan, int k);
int virtual_stage_index(const Plan& plan, const VirtualStage& place);

// (stage, chunk, index in chunk) of a layer of the model.
struct LayerPlace {
  int stage = 0;
  int chunk = 0;
  int index = 0;
};
LayerPlace place_of(const Plan& plan, int layer);
const LayerPlan& layer_plan(const Plan& plan, const LayerPlace& place);

// Layout in which a parameter is held on its stage's mesh and that of its gradient before
// reduction. Mesh axes over which its state may be shared out and its gradient must be reduced:
// those where `gradient` is partial.
struct ParameterPlacement {
  Layout layout;
  Layout gradient;
  int reduction_degree = 1;  // product of the mesh axes where `gradient` is partial
};
ParameterPlacement parameter_placement(const Op& op,
                                       const Operand& parameter,
                                       const AxisAssignment& assignment,
                                       const Mesh& mesh);

// Everything that is wrong with the plan for this graph (which must have plan.microbatch() and
// plan.sequence), as sentences that name stage, layer and op; empty if valid. Checks layer coverage
// and order, devices used once, valid assignments and layouts, data axis on b (experts: b, xb),
// micro-batches dividing the batch, interleaved rules.
std::vector<std::string> plan_violations(const Plan& plan, const Graph& graph);

std::string to_string(StateSharding value);  // none, optimizer, gradients, parameters
std::string to_string(Recompute value);      // none, selective, full
std::string to_string(Schedule value);       // gpipe, 1f1b, ...: ScheduleTraits::name
std::string to_string(Precision value);      // fp32, bf16

}  // namespace shardwise
