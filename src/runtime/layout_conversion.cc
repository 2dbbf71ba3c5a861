#include "runtime/layout_conversion.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <vector>

#include "core/errors.h"
#include "runtime/kernel_parts.h"

namespace shardwise {
namespace {

using Shape = std::vector<std::int64_t>;

Shape shape_of(const at::Tensor& tensor) { return tensor.sizes().vec(); }

// [.., n * k at `dim`, ..] -> [n, .., k, ..], contiguous: block j is what member j gets.
at::Tensor blocks_in_front(const at::Tensor& tensor, int dim, int n) {
  Shape split = shape_of(tensor);
  split[static_cast<std::size_t>(dim)] /= n;
  split.insert(split.begin() + dim, n);
  return tensor.view(split).movedim(dim, 0).contiguous();
}

// [n, .., k at `dim` of the rest, ..] -> [.., n * k, ..], contiguous.
at::Tensor merge_blocks(const at::Tensor& blocks, int dim) {
  Shape merged = shape_of(blocks);
  const std::int64_t n = merged.front();
  merged.erase(merged.begin());
  merged[static_cast<std::size_t>(dim)] *= n;
  return blocks.movedim(0, dim).reshape(merged).contiguous();
}

at::Tensor all_gather(const at::Tensor& input, int dim, CommunicationGroup& group) {
  Shape gathered = shape_of(input);
  gathered.insert(gathered.begin(), group.size());
  const at::Tensor blocks = at::empty(gathered, input.options());
  group.all_gather(
      input.const_data_ptr(), blocks.mutable_data_ptr(), input.numel(), wire_type(input));
  return merge_blocks(blocks, dim);
}

at::Tensor reduce_scatter(const at::Tensor& input, int dim, CommunicationGroup& group) {
  const at::Tensor blocks = blocks_in_front(input, dim, group.size());
  Shape block = shape_of(blocks);
  block.erase(block.begin());
  at::Tensor result = at::empty(block, input.options());
  group.reduce_scatter(
      blocks.const_data_ptr(), result.mutable_data_ptr(), result.numel(), wire_type(input));
  return result;
}

at::Tensor all_to_all(const at::Tensor& input, int dim, int to_dim, CommunicationGroup& group) {
  const at::Tensor send = blocks_in_front(input, to_dim, group.size());
  const at::Tensor receive = at::empty_like(send);
  group.all_to_all(send.const_data_ptr(),
                   receive.mutable_data_ptr(),
                   send.numel() / group.size(),
                   wire_type(input));
  return merge_blocks(receive, dim);
}

at::Tensor slice(const at::Tensor& input, int dim, int coordinate, int degree) {
  const std::int64_t size = input.size(dim) / degree;
  const at::Tensor part = input.narrow(dim, coordinate * size, size);
  // A copy in any case: a view would keep the whole alive.
  return part.clone(at::MemoryFormat::Contiguous);
}

}  // namespace

at::Tensor convert_layout(const CollectiveStep& step,
                          const at::Tensor& input,
                          CommunicationGroup* group,
                          int coordinate,
                          int degree,
                          bool may_overwrite) {
  SHARDWISE_CHECK(input.is_contiguous(), "conversion of a tensor that is not contiguous");
  if (step.kind == CollectiveKind::kSlice) {
    return slice(input, step.dim, coordinate, degree);
  }
  SHARDWISE_CHECK(group != nullptr && group->size() == degree, "conversion without its group");
  switch (step.kind) {
    case CollectiveKind::kAllGather:
      return all_gather(input, step.dim, *group);
    case CollectiveKind::kReduceScatter:
      return reduce_scatter(input, step.dim, *group);
    case CollectiveKind::kAllToAll:
      return all_to_all(input, step.dim, step.to_dim, *group);
    case CollectiveKind::kAllReduce:
    case CollectiveKind::kSlice:
      break;
  }
  at::Tensor sum = may_overwrite ? input : input.clone();
  group->all_reduce(sum.mutable_data_ptr(), sum.numel(), wire_type(sum));
  return sum;
}

}  // namespace shardwise
