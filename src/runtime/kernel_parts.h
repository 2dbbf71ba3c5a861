// What the kernels of several kinds share. For src/runtime/kernel_*.cc only.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/kernel.h"

namespace shardwise {

// A kind whose backward gives input and weight gradients at once.
class WholeBackwardKernel : public Kernel {
 public:
  std::vector<at::Tensor> backward_input(const KernelContext& context,
                                         const BackwardInputs& in) const final;
  void backward_weight(const KernelContext& context, const BackwardInputs& in) const final;
};

// Type in which sums, statistics and parameter gradients are kept: fp32, double for double.
at::ScalarType accumulation_type(const at::Tensor& tensor);
WireType wire_type(const at::Tensor& tensor);

// Local size of the loop axis called `name`.
std::int64_t local_size(const KernelContext& context, const std::string& name);

// Adds `gradient` (any floating type) to the accumulator of a parameter, or overwrites it
// (KernelContext::accumulate).
void add_gradient(const KernelContext& context, std::size_t parameter, const at::Tensor& gradient);

// Rows of `row_elements` numbers that fit in cache together with a few tensors of the same size, on
// a CPU; all `rows` on other devices. At least 1.
std::int64_t rows_in_cache(const at::Tensor& tensor, std::int64_t rows, std::int64_t row_elements);

// Calls body(first, count) for successive runs of rows that fit in cache: several passes over them
// then cost one pass over memory.
template <typename Body>
void for_rows_in_cache(const at::Tensor& tensor,
                       std::int64_t rows,
                       std::int64_t row_elements,
                       const Body& body) {
  const std::int64_t step = rows_in_cache(tensor, rows, row_elements);
  for (std::int64_t first = 0; first < rows; first += step) {
    body(first, std::min(step, rows - first));
  }
}

// The same numbers as [rows, columns] / flat.
at::Tensor as_rows(const at::Tensor& tensor, std::int64_t columns);

}  // namespace shardwise
