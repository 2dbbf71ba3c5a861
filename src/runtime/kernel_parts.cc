#include "runtime/kernel_parts.h"

#include <string>

#include "core/errors.h"

namespace shardwise {

std::vector<at::Tensor> WholeBackwardKernel::backward_input(const KernelContext& context,
                                                            const BackwardInputs&) const {
  SHARDWISE_CHECK(false, to_string(context.op->kind) + " does not split its backward");
}

void WholeBackwardKernel::backward_weight(const KernelContext& context,
                                          const BackwardInputs&) const {
  SHARDWISE_CHECK(false, to_string(context.op->kind) + " does not split its backward");
}

at::ScalarType accumulation_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

WireType wire_type(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return WireType::kFloat32;
    case at::kBFloat16:
      return WireType::kBFloat16;
    case at::kDouble:
      return WireType::kFloat64;
    case at::kLong:
      return WireType::kInt64;
    default:
      SHARDWISE_CHECK(false,
                      std::string("no wire type for ") + c10::toString(tensor.scalar_type()));
  }
}

std::int64_t local_size(const KernelContext& context, const std::string& name) {
  const int axis = axis_index(*context.op, name);
  SHARDWISE_CHECK(axis >= 0, context.op->name + " has no axis " + name);
  return context.sizes[static_cast<std::size_t>(axis)];
}

void add_gradient(const KernelContext& context, std::size_t parameter, const at::Tensor& gradient) {
  const at::Tensor& accumulator = context.parameter_gradients[parameter];
  const at::Tensor same_shape = gradient.reshape(accumulator.sizes());
  if (context.accumulate) {
    accumulator.add_(same_shape);
  } else {
    accumulator.copy_(same_shape);
  }
}

std::int64_t rows_in_cache(const at::Tensor& tensor, std::int64_t rows, std::int64_t row_elements) {
  // 128 KiB of fp32: a handful of them fit in a second-level cache of 1 MiB.
  constexpr std::int64_t kElements = std::int64_t{32} * 1024;
  if (!tensor.is_cpu()) {
    return std::max<std::int64_t>(rows, 1);
  }
  return std::max<std::int64_t>(kElements / std::max<std::int64_t>(row_elements, 1), 1);
}

at::Tensor as_rows(const at::Tensor& tensor, std::int64_t columns) {
  return tensor.reshape({columns == 0 ? 0 : tensor.numel() / columns, columns});
}

}  // namespace shardwise
