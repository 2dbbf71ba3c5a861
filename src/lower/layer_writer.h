// The steps of layers in a rank's program: buffers, kernels, conversions, and the exchange of
// parameter state around them. Internal to lower.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "lower/boundary.h"
#include "lower/local_parameters.h"
#include "lower/schedule.h"

namespace shardwise::internal {

// What all ranks of a plan share. Refers to plan and graph.
struct SharedParts {
  SharedParts(const Plan& plan_in, const Graph& graph_in, const std::vector<PassTimes>& times)
      : plan(plan_in),
        graph(graph_in),
        orders(stage_orders(
            plan_in.schedule,
            {plan_in.num_stages(), plan_in.num_microbatches, plan_in.num_chunks(), times})),
        bodies(graph_in.layers.size()),
        boundaries(plan_in, graph_in) {}

  const LayerBody& body(int layer);

  const Plan& plan;
  const Graph& graph;
  const std::vector<StageOrder> orders;          // by stage
  std::vector<std::optional<LayerBody>> bodies;  // by layer, made when first asked for
  BoundaryMessages boundaries;
};

// One pass of a layer: forward, or recomputation and backward, or one part of backward.
struct LayerPass {
  int layer = 0;
  int microbatch = 0;
  bool is_backward = false;
  BackwardPart part = BackwardPart::kWhole;
  // Whether it is the chunk's last pass of the step that makes input gradients, weight gradients.
  bool ends_inputs = false;
  bool ends_weights = false;
};

// Appends instructions to a program, which must have its groups and parameters. Refers to all its
// arguments.
class LayerWriter {
 public:
  LayerWriter(SharedParts& shared,
              const StagePlan& stage,
              const ParameterIndex& parameters,
              Program& program);

  void write(const LayerPass& pass);

  // The buffer of a value of a layer body, made when first asked for.
  BufferId buffer(int layer, int microbatch, ValueId id);

  // Lets a value of layer `to` be the buffer of a value of layer `from`: a boundary that both
  // share.
  void share(int from, ValueId from_value, int to, ValueId to_value, int microbatch);

  // The layer's backward is done in this micro-batch: its values are no longer asked for.
  void forget(int layer, int microbatch);

  // Update and gathering of updated parameters, op by op.
  void write_updates();

  // Reductions that wait for all backward passes: with a split backward the two ops that share a
  // parameter may end in any order.
  void write_shared_reductions();

  // Buffers of all losses so far.
  const std::vector<BufferId>& losses() const { return losses_; }

 private:
  // Parameters of one op that take part in one kind of exchange, as indices into
  // Program::parameters.
  struct OpParameters {
    std::vector<int> gathered;               // ZeRO 3
    std::vector<int> reduced_by_microbatch;  // gradients are shared out
    std::vector<int> reduced_by_step;
    std::vector<int> reduced_at_the_end;  // shared, backward split
    std::vector<int> updated;
    std::vector<int> gathered_when_updated;  // ZeRO 1 and 2
  };

  // Buffers of the values of one layer in one micro-batch; -1: not made yet.
  using ValueBuffers = std::vector<BufferId>;

  // Index into Program::internal, -1: no collectives; by direction.
  static constexpr int kUnknown = -2;
  using InternalByDirection = std::array<int, 4>;

  void sort_parameter(const ParameterPlace& use, int index, OpParameters& of_op) const;
  void write_exchange(
      InstructionKind kind, int layer, int op, int microbatch, const std::vector<int>& parameters);
  ValueBuffers& values_of(int layer, int microbatch);
  bool is_loaded(int layer, ValueId id) const;
  void forget_loads(const LayerPass& pass);
  void write_loads(const LayerPass& pass, const LayerStep& step);
  void write_step(const LayerPass& pass, const LayerStep& step, bool again);
  void end_op(const LayerPass& pass, int op);
  void write_reductions(const LayerPass& pass, int op);
  bool belongs(const LayerStep& step, const LayerPass& pass) const;
  bool has_weight_part(int layer, int op);
  bool is_read_later(const LayerPass& pass, ValueId id);
  int internal_collectives(int layer, const LayerStep& step);
  Instruction& add(InstructionKind kind);

  SharedParts& shared_;
  const Plan& plan_;
  const Graph& graph_;
  const StagePlan& stage_;
  Program& program_;
  const bool splits_;                                 // the schedule splits backward
  std::map<int, std::set<ValueId>> read_by_weights_;  // by layer: values that weight parts read
  std::map<int, std::vector<OpParameters>> op_parameters_;    // by layer, op
  std::map<int, std::vector<InternalByDirection>> internal_;  // by layer, op
  std::vector<std::vector<ValueBuffers>> values_;             // by layer, micro-batch
  std::vector<BufferId> losses_;
};

}  // namespace shardwise::internal
