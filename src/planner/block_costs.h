// Costs of one block on one stage shape, taken apart: a sum over its ops' choices and, for each
// tensor, over the layouts in which it is made and used. The planner's own account; test and
// find_plan hold it against evaluate().
//
// A *choice* of an op is an index into its assignments. A *use class* of a tensor says all that a
// use means to it: the layout it wants forward, the layout its gradient comes back in, and what
// backward keeps of it. When the producer's layout and all use classes are known, the tensor is
// *closed*: its conversions, additions of gradients and kept bytes are known.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/op_definition.h"
#include "planner/option.h"
#include "planner/space.h"

namespace shardwise::planning {

// Parameter of the block that is tied to one of another layer: ops[op].parameters[index].
struct TiedPlace {
  int op = -1;
  int index = -1;
};

using UseClassId = std::uint8_t;

// What closing a tensor costs.
struct Closing {
  bool possible = true;  // padded shards cannot change their layout
  Cost cost;
  bool keeps_produced = false;  // the value as produced is kept for backward
  bool keeps_output = false;    // the value in the block's output layout is kept
};

// What a block costs but for its parameters: choices, kernels, conversions. Nothing of it depends
// on the data degree d and the micro-batch b but through b / d, as long as the data axis shards
// sequences alone: shapes with equal b / d, free axes and places of these share it.
struct BlockActivations {
  struct TensorUse {
    int tensor = 0;  // of the block
    int op = 0;
    int input = 0;
  };
  struct UseClass {
    int wanted = 0;    // layout
    int gradient = 0;  // layout
    bool has_gradient = false;
    bool is_needed = false;        // backward of the user reads it
    bool is_needed_again = false;  // full recomputation reads it
    bool is_block_output = false;
    bool is_addend = false;  // its gradient is the gradient of a sum, the very value
    auto operator<=>(const UseClass&) const = default;
  };
  struct Conversion {
    bool is_known = false;
    bool possible = false;
    std::int64_t time = 0;
    // Selective recomputation: the value to keep so that the last one costs nothing, or -1: the
    // source itself.
    std::int64_t kept_bytes = -1;
    bool keeps_last = false;
  };
  struct TensorModel {
    bool has_cost = false;
    bool has_gradient = false;
    bool is_output = false;
    int producer = -1;
    int producer_output = -1;
    bool producer_saves = false;  // its backward reads this result
    std::vector<TensorUse> uses;
    std::vector<Layout> layouts;
    std::vector<std::int64_t> bytes;               // by layout
    mutable std::vector<std::int64_t> accumulate;  // by layout; -1 unknown
    std::vector<int> produced;                     // layout by choice of the producer
    std::vector<int> required;                     // layout of its whole gradient, by that choice
    std::vector<UseClass> classes;
    mutable std::vector<std::vector<Conversion>> conversions;
  };
  struct OpChoice {
    std::int64_t forward_kernel = 0;
    std::int64_t forward_collectives = 0;
    std::int64_t backward_kernels = 0;
    std::int64_t backward_collectives = 0;
    std::int64_t statistics = 0;
    std::int64_t forward_workspace = 0;
    std::int64_t backward_workspace = 0;
    int signature = -1;  // without state sharding
  };
  struct OpModel {
    std::vector<AxisAssignment> assignments;
    std::vector<OpChoice> choices;
    std::vector<std::vector<UseClassId>> use_classes;  // [input][choice]
    bool runs_again = false;                           // under full recomputation
    bool is_cheap = false;
    bool has_statistics = false;
  };
  // What a tensor costs for each value of the variables in its scope (option_factors.h): forward
  // and backward time in picoseconds (kForbidden: impossible) and kept bytes. Not more than the
  // true cost; less only where several uses share a conversion and the tensor has too many users
  // for one table.
  struct TensorFactor {
    std::vector<int> scope;
    std::vector<double> time;
    std::vector<double> saved;
  };

  bool is_made = false;
  bool is_shared = false;  // by shapes with other data degrees
  std::vector<Layout> inputs;
  std::vector<Layout> outputs;
  std::vector<bool> is_input_allowed;
  std::vector<UseClassId> output_classes;
  std::vector<OpModel> ops;
  std::vector<TensorModel> tensors;
  // Of all choices, by way to recompute; BlockRelaxation makes them.
  std::array<std::optional<std::vector<TensorFactor>>, 3> tensor_factors;
};

class BlockCosts {
 public:
  // `activations`: shared with equal ones; made here if they are not yet.
  BlockCosts(const Block& block,
             const StageShape& shape,
             Precision precision,
             const CostTable& costs,
             const SpaceLimits& limits,
             const TiedPlace& tied,
             const Constraints& constraints = {},
             std::shared_ptr<BlockActivations> activations = std::make_shared<BlockActivations>());

  // Whether the data axis shards nothing but sequences, whatever is chosen: then shapes share.
  static bool has_shareable_activations(const Block& block, const Constraints& constraints);
  BlockActivations& activations() const { return *activations_; }

  const Block& block() const { return block_; }
  const StageShape& shape() const { return shape_; }
  Precision precision() const { return precision_; }
  int num_ops() const { return static_cast<int>(block_.ops.size()); }
  const std::vector<AxisAssignment>& choices(int op) const { return ops_[at(op)].assignments; }
  // Whether every op has a choice.
  bool is_possible() const;

  // Layouts of the boundary; one meaningless entry where the block has no input or output.
  const std::vector<Layout>& inputs() const { return activations_->inputs; }
  const std::vector<Layout>& outputs() const { return activations_->outputs; }
  bool has_input() const { return !block_.inputs.empty(); }
  bool has_output() const { return !block_.outputs.empty(); }
  std::int64_t input_bytes(int input) const;
  std::int64_t output_bytes(int output) const;

  // Kernels, collectives inside them, parameters.
  const Cost& op_cost(int op, int choice, const Mode& mode) const;
  // What the op needs of its parameters beside its kernels' values.
  struct ParameterMemory {
    std::int64_t momentary = 0;  // gathered weights, whole gradients: while it computes
    std::int64_t held = 0;       // gathered weights, from recomputation to its backward
  };
  const ParameterMemory& parameter_memory(int op, int choice, const Mode& mode) const;

  // Tensors with a cost: activations and ids that are not loaded.
  using TensorUse = BlockActivations::TensorUse;
  bool has_cost(TensorIndex tensor) const { return tensors_[at(tensor)].has_cost; }
  int producer(TensorIndex tensor) const { return tensors_[at(tensor)].producer; }  // -1: input
  const std::vector<TensorUse>& uses(TensorIndex tensor) const { return tensors_[at(tensor)].uses; }
  bool is_output(TensorIndex tensor) const { return tensors_[at(tensor)].is_output; }
  int num_classes(TensorIndex tensor) const {
    return static_cast<int>(tensors_[at(tensor)].classes.size());
  }
  UseClassId use_class(int op, int input, int choice) const {
    return ops_[at(op)].use_classes[at(input)][at(choice)];
  }
  UseClassId output_class(int output) const { return activations_->output_classes[at(output)]; }

  // `choice`: of the producer, or of the input layout. `uses`: sorted, equal ones repeated.
  Closing close(TensorIndex tensor,
                int choice,
                std::span<const UseClassId> uses,
                Recompute recompute) const;
  // One use's share of the cost of closing: the shares of all uses sum to at most the cost.
  struct Share {
    bool possible = true;
    double forward = 0;
    double backward = 0;
    double saved = 0;
  };
  Share share(TensorIndex t, int choice, UseClassId use_class, Recompute recompute) const;

  // Parts of a bound on the layer's transient memory (option_search.cc).
  std::int64_t produced_bytes(TensorIndex tensor, int choice) const;
  std::int64_t wanted_bytes(TensorIndex tensor, UseClassId use) const;
  std::int64_t gradient_bytes(TensorIndex tensor, UseClassId use) const;  // 0: no gradient
  std::int64_t produced_gradient_bytes(TensorIndex tensor, int choice) const;
  // Layout that the use wants / its gradient has, as a number; -1: no gradient.
  int wanted_layout(TensorIndex tensor, UseClassId use) const {
    return tensors_[at(tensor)].classes[use].wanted;
  }
  int gradient_layout_of(TensorIndex tensor, UseClassId use) const {
    const UseClass& what = tensors_[at(tensor)].classes[use];
    return what.has_gradient ? what.gradient : -1;
  }
  int produced_layout(TensorIndex tensor, int choice) const {
    return tensors_[at(tensor)].produced[at(choice)];
  }
  bool is_needed(TensorIndex tensor, UseClassId use) const {
    return tensors_[at(tensor)].classes[use].is_needed;
  }
  bool is_addend(TensorIndex tensor, UseClassId use) const {
    return tensors_[at(tensor)].classes[use].is_addend;
  }
  // Whether the backward of a use reads the tensor, in some choice.
  bool is_needed_by(TensorIndex tensor, const TensorUse& use) const;
  std::int64_t most_bytes(TensorIndex tensor) const;  // over its layouts
  bool producer_saves(TensorIndex tensor) const { return tensors_[at(tensor)].producer_saves; }
  std::int64_t statistics_bytes(int op, int choice) const;
  std::int64_t workspace(int op, int choice, bool is_forward) const;

  // Layouts that decide how a tie works; equal signatures share one tensor. -1: nothing tied.
  int signature(int op, int choice, const Mode& mode) const;
  const TiedPlace& tied() const { return tied_; }

 private:
  using UseClass = BlockActivations::UseClass;
  using Conversion = BlockActivations::Conversion;
  using TensorModel = BlockActivations::TensorModel;
  using OpChoice = BlockActivations::OpChoice;
  using OpModel = BlockActivations::OpModel;
  struct ModeCosts {
    std::vector<std::vector<Cost>> cost;               // [op][choice]
    std::vector<std::vector<ParameterMemory>> memory;  // [op][choice]
  };

  static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  bool is_choice_allowed(TensorIndex tensor, int choice) const {
    return tensors_[at(tensor)].producer >= 0 || activations_->is_input_allowed[at(choice)];
  }
  void make_activations(const SpaceLimits& limits, const Constraints& constraints);
  void find_again();
  void add_tensors();
  void add_uses();
  void add_op_choices(int op);
  int layout_id(TensorModel& tensor, const Layout& layout, const Tensor& what);
  UseClassId class_id(TensorModel& tensor, const UseClass& use);
  std::int64_t kernel(const Op& op, const std::vector<std::int64_t>& sizes, Direction) const;
  std::int64_t inner_collectives(const Op& op, const AxisAssignment&, Direction) const;
  const ModeCosts& mode_costs(const Mode& mode) const;
  void price_parameters(
      int op, int choice, const Mode& mode, Cost& cost, ParameterMemory& memory) const;
  const Conversion& conversion(TensorIndex tensor, int from, int to) const;
  std::int64_t accumulate_time(const TensorModel& tensor, int layout) const;
  std::int64_t collective(CollectiveKind kind, Bytes payload, unsigned axes, Precision) const;
  std::int64_t activation_collective(CollectiveKind kind,
                                     Bytes payload,
                                     int mesh_axis,
                                     Precision precision) const;
  void close_kept(
      TensorIndex tensor, int choice, std::span<const UseClassId>, Recompute, Closing&) const;

  const Block& block_;
  const StageShape& shape_;
  const Precision precision_;
  const CostTable& costs_;
  const TiedPlace tied_;
  const std::shared_ptr<BlockActivations> activations_;
  std::vector<OpModel>& ops_;          // of activations_
  std::vector<TensorModel>& tensors_;  //
  mutable std::map<Mode, ModeCosts> modes_;
};

}  // namespace shardwise::planning
