// What a kind of op means beyond its axes: work, memory traffic, what backward needs, which kernels
// talk. One file a kind: op_linear.cc, op_attention.cc, ...; the table in op_definition.cc lists
// them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/units.h"
#include "graph/layout.h"
#include "graph/op.h"

namespace shardwise {

// kBackward = input and weight gradients at once, for kinds that do not split.
enum class Direction { kForward, kBackwardInput, kBackwardWeight, kBackward };

// A tensor that forward leaves for backward besides inputs and outputs (mean, log-sum-exp).
struct SavedStatistic {
  std::string_view name;
  ElementType type = ElementType::kFloat32;
  std::vector<int> axes;  // loop axes; local shape = local sizes of these axes
};

// What backward reads. Input-gradient needs parameters too, always.
struct SavedForBackward {
  std::vector<int> inputs;   // indices into Op::inputs
  std::vector<int> outputs;  // indices into Op::outputs
  std::vector<SavedStatistic> statistics;
};

// A collective inside a kernel (vocabulary-parallel loss, expert exchange), per micro-batch.
struct InternalCollective {
  CollectiveKind kind = CollectiveKind::kAllReduce;
  int mesh_axis = 0;
  Bytes payload{0};     // convention of CollectiveStep::payload; experts: for an even routing
  bool routed = false;  // payload depends on routed counts at run time
};

struct OpDefinition {
  OpKind kind;
  std::string_view name;
  bool splits_backward;  // linear, experts, ...: input and weight gradients are separate kernels
  bool cheap;            // recomputed under selective recomputation (norms, activations, rotary)
  // Arithmetic of one execution; `sizes` are local sizes of Op::axes.
  Flops (*work)(const Op&, std::span<const std::int64_t> sizes, Direction);
  // Bytes read and written by one execution; `element` = bytes of the compute type.
  Bytes (*traffic)(const Op&, std::span<const std::int64_t> sizes, Direction, std::int64_t element);
  SavedForBackward (*saved)(const Op&);
  // Largest temporary memory of the kernel beyond inputs, outputs and statistics.
  Bytes (*workspace)(const Op&,
                     std::span<const std::int64_t> sizes,
                     Direction,
                     std::int64_t element);
  std::vector<InternalCollective> (*internal_collectives)(
      const Op&, const AxisAssignment&, const Mesh&, Direction, std::int64_t element);
};

const OpDefinition& definition_of(OpKind kind);

}  // namespace shardwise
