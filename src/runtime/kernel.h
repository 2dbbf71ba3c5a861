// The contract of op kernels: explicit forward and backward on local shards, calling ATen's own
// operators, no autograd. One file a kind (kernel_linear.cc, ...); kernel.cc lists them.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "graph/op_definition.h"
#include "runtime/communicator.h"

namespace shardwise {

// Where this rank stands in one execution of an op. Lives as long as the call.
struct KernelContext {
  const Op* op = nullptr;
  AxisAssignment assignment{kUnassigned, kUnassigned, kUnassigned};
  Mesh mesh;
  MeshCoordinates coordinates{0, 0, 0};
  std::vector<std::int64_t> sizes;  // local sizes of op->axes (padding included)

  // This rank's group along mesh axis m (nullptr where its size is 1), for kernels that talk.
  std::array<CommunicationGroup*, kMeshAxes> groups{nullptr, nullptr, nullptr};

  // Local parameters, in operand order, compute type, local (padded) shape.
  std::vector<at::Tensor> parameters;
  // Gradient accumulators, fp32 (double in double), same shapes: backward ADDS into them.
  std::vector<at::Tensor> parameter_gradients;
  // False: nothing was added to these accumulators in this step yet and they may hold anything;
  // backward then overwrites them wholly. Saves zeroing them and one pass over them.
  bool accumulate = true;

  // Order of the whole sequence: 1 natural, c > 1 zigzag of 2c chunks (Plan::context_chunks).
  int context_chunks = 1;
  std::int64_t sequence = 0;  // whole length

  // Loss and its gradient are scaled by this: 1 / (tokens of the whole step). The loss is partial
  // on every mesh axis that is assigned (graph/layout.h: output_layout), v included, and equal on
  // unassigned ones.
  double loss_scale = 1;

  // Experts append to this, if set, for every forward and backward: the (token, expert) rows this
  // rank handed to the exchange on the way to the experts and those handed back, one pair of
  // numbers for each exchange axis in mesh order, then the rows its own experts computed. Payload
  // bytes of an exchange = rows x width x bytes of an element (op_experts.cc lists the exchanges).
  std::vector<std::int64_t>* routed_counts = nullptr;

  // Global position (0 <= p < sequence) of each local row of the sequence axis "s".
  std::vector<std::int64_t> positions() const;
  // First global index of loop axis `axis` on this rank, and how many real (unpadded) ones follow.
  // Requires an axis that some operand contains.
  std::int64_t axis_offset(int axis) const;
  std::int64_t axis_real_size(int axis) const;
  // Whether this rank adds epilogue operands (coordinate 0 on mesh axes whose loop axis is summed).
  bool adds_epilogue() const;
};

// Positions of the tokens in storage order for a sequence of `sequence` tokens in `context_chunks`.
std::vector<std::int64_t> token_order(std::int64_t sequence, int context_chunks);

// Tensors in and out are contiguous. A gradient may be the output gradient itself (kAdd, position
// embedding): the same storage, so add into it only if nobody else reads it. Kernels keep no state
// of a call and may run on several threads at once; run them under c10::InferenceMode (or below
// autograd): nothing here records a tape.
class Kernel {
 public:
  virtual ~Kernel() = default;

  // inputs in operand order; returns outputs then statistics (SavedForBackward::statistics order).
  // `reuse` (may be undefined): storage of an input that dies here; the kernel may write its
  // output into it.
  virtual std::vector<at::Tensor> forward(const KernelContext& context,
                                          const std::vector<at::Tensor>& inputs,
                                          const at::Tensor& reuse) const = 0;

  // What backward reads: gradients of outputs (none for the loss), then saved inputs, outputs and
  // statistics as SavedForBackward lists them.
  struct BackwardInputs {
    std::vector<at::Tensor> output_gradients;
    std::vector<at::Tensor> saved_inputs;
    std::vector<at::Tensor> saved_outputs;
    std::vector<at::Tensor> statistics;
  };
  // Input gradients in operand order (undefined for tokens, targets, ids).
  virtual std::vector<at::Tensor> backward_input(const KernelContext&,
                                                 const BackwardInputs&) const = 0;
  // Adds to context.parameter_gradients.
  virtual void backward_weight(const KernelContext&, const BackwardInputs&) const = 0;
  // Both. Kinds that do not split implement only this (OpDefinition::splits_backward); needs_input
  // false: input gradients are not wanted (first layer).
  virtual std::vector<at::Tensor> backward(const KernelContext&,
                                           const BackwardInputs&,
                                           bool needs_input) const = 0;
};

// The kernel that runs a kind of op; nullptr for a kind that can only be planned so far
// (training_refusals in models/model.h names models that have such ops).
const Kernel* find_kernel(OpKind kind);
// The same where there must be one.
const Kernel& kernel_of(OpKind kind);

}  // namespace shardwise
