// One layer under one LayerPlan, spelled out: which kernels and collectives run forward, again
// before backward (recomputation) and backward, on which values, and what is kept in between.
//
// This is the one place that knows how assignments become steps: a tensor is converted once per
// distinct target layout; gradients of all uses with the same (target layout, gradient layout) are
// added while still partial and converted back once; then groups are added. `cost` prices these
// steps, `lower` instantiates them for ranks and micro-batches: nobody derives them a second time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/units.h"
#include "graph/op_definition.h"
#include "graph/plan.h"

namespace shardwise {

using ValueId = int;

// A local tensor inside a layer body: an activation, a gradient or a statistic in one layout.
struct Value {
  enum class Kind { kActivation, kGradient, kStatistic };
  Kind kind = Kind::kActivation;
  TensorIndex tensor = 0;  // of the block (statistics: of the op's first output)
  int op = -1;             // statistics: which op, else -1
  int statistic = -1;      // statistics: which, else -1
  Layout layout{};
  std::vector<std::int64_t> shape;  // local
  ElementType type = ElementType::kCompute;
  Bytes bytes{0};
};

struct LayerStep {
  enum class Kind {
    kOp,          // kernel of `op` in `direction`
    kCollective,  // `collective`: reads one value, writes one (kSlice moves nothing over a network)
    kAccumulate,  // writes[0] = reads[0] + reads[1] (gradients)
  };
  Kind kind = Kind::kOp;
  int op = -1;
  Direction direction = Direction::kForward;
  CollectiveStep collective;
  // kOp forward: reads = inputs in operand order; writes = outputs then statistics.
  // kOp kBackwardInput / kBackward: reads = gradients of outputs, then saved inputs, saved outputs,
  //   statistics in the order of SavedForBackward; writes = gradients of inputs, in operand order,
  //   -1 for inputs without gradient (tokens, targets, ids).
  // kOp kBackwardWeight: reads as backward-input; writes nothing (adds to parameter gradients).
  // kBackward does both at once for kinds that do not split. Loss: reads no output gradient.
  // A kAdd has no backward step: its inputs' gradients are its output's gradient.
  std::vector<ValueId> reads;
  std::vector<ValueId> writes;
  // Value whose storage writes[0] takes over (it dies here): residual adds, accumulation. Or -1.
  ValueId in_place = -1;
  Bytes workspace{0};  // kOp: OpDefinition::workspace
};

struct LayerBody {
  std::vector<Value> values;
  std::vector<LayerStep> forward;
  std::vector<LayerStep> recompute;
  std::vector<LayerStep> backward;
  // Kept from the end of forward to backward (the boundary input counts when it is needed).
  // Token ids and targets are not listed: they are reloaded.
  std::vector<ValueId> saved;
  ValueId input = -1;            // in LayerPlan::input_layout; -1 in the first layer
  ValueId output = -1;           // in `output_layout`; -1 in the last layer
  ValueId loss = -1;             // last layer
  ValueId output_gradient = -1;  // arrives in `output_layout`
  ValueId input_gradient = -1;   // leaves in LayerPlan::input_layout

  Bytes saved_bytes() const;
};

// What follows the layer: the layout its boundary output is brought to (next layer's input_layout,
// or the chunk's output_layout). Requires a valid plan (plan_violations empty).
LayerBody make_layer_body(const Block& block,
                          const LayerPlan& plan,
                          const Mesh& mesh,
                          const Layout& output_layout,
                          Precision precision);

// Same for a layer of a plan.
LayerBody make_layer_body(const Graph& graph, const Plan& plan, int layer);

// Layout to which layer `layer` brings its boundary output.
Layout boundary_output_layout(const Plan& plan, int layer);

std::int64_t element_bytes(ElementType type, Precision precision);  // 4, 2 or 8

}  // namespace shardwise
