// What the tests of kernels share: runs one op whole or sharded over ranks as threads, and judges
// it by autograd, by finite differences and by the unsharded run.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "graph/block_builder.h"
#include "runtime/kernel.h"

namespace shardwise::testing {

// The same function as the kernel, written with other operators, for autograd: floating outputs
// only, from inputs and parameters in operand order.
using Reference = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs,
                                                        const std::vector<at::Tensor>& parameters)>;

struct KernelCase {
  Block block;
  int op = 0;  // index into block.ops
  Reference reference;
  int context_chunks = 1;

  const Op& subject() const { return block.ops[static_cast<std::size_t>(op)]; }
};

inline constexpr double kTestLossScale = 0.125;

// Whole operands: inputs (token ids in range, expert ids distinct for each token), parameters, and
// gradients of the floating outputs (none for the loss).
struct Operands {
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> output_gradients;
};
Operands random_operands(const KernelCase& subject, at::ScalarType type, std::uint64_t seed = 1);

// Undefined gradients of integer inputs stay undefined. The accumulators start at one, which is
// taken off again.
struct KernelResults {
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> input_gradients;
  std::vector<at::Tensor> parameter_gradients;
};

KernelContext whole_context(const KernelCase& subject, const Operands& operands);
KernelResults run_whole(const KernelCase& subject, const Operands& operands);

// Every rank of the mesh as a thread with its shards (padding filled with sevens); results put
// together again. Checks that replicated results are bit-equal.
KernelResults run_sharded(const KernelCase& subject,
                          const Operands& operands,
                          const Mesh& mesh,
                          const AxisAssignment& assignment);

// What the first rank of such a run hands to collectives, forward and backward.
PayloadCounts payload_of_sharded_run(const KernelCase& subject,
                                     const Operands& operands,
                                     const Mesh& mesh,
                                     const AxisAssignment& assignment);

// Outputs and gradients equal within `tolerance`: norm of the difference relative to the norm.
void expect_equal_results(const KernelResults& found,
                          const KernelResults& expected,
                          double tolerance);
void expect_close(const at::Tensor& found, const at::Tensor& expected, double tolerance);

// Forward and backward against the reference in fp32 (1e-5), double (1e-12) and bf16 (2e-2, against
// fp32 on the same rounded numbers).
void expect_agrees_with_autograd(const KernelCase& subject);
// In double: every floating operand, up to 24 elements each, against central differences (1e-6).
void expect_agrees_with_finite_differences(const KernelCase& subject);
// KernelContext::accumulate false overwrites accumulators that hold NaN.
void expect_overwrites_accumulators(const KernelCase& subject);
// Every valid assignment of at least one axis on meshes of 1x2x1, 2x2x1 and 1x2x2 devices.
void expect_sharding_changes_nothing(const KernelCase& subject);

// All four; sharding only where there is something to shard.
void expect_correct_kernel(const KernelCase& subject);

}  // namespace shardwise::testing
