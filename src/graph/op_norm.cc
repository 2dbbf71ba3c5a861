// layer_norm: b s h, h, h -> b s h
// rms_norm:   b s .. d, d -> b s .. d    over the last dimension
// The normalised axis stays whole; all others may be sharded.
#include "graph/op_table.h"

namespace shardwise {

namespace {

// Loop axes of all dimensions but the last.
std::vector<int> leading_axes(const Op& op) {
  std::vector<int> axes;
  for (std::size_t d = 0; d + 1 < op.inputs[0].dims.size(); ++d) {
    axes.push_back(op.inputs[0].dims[d].front());
  }
  return axes;
}

SavedForBackward layer_norm_saved(const Op& op) {
  return {.inputs = {0},
          .outputs = {},
          .statistics = {{"mean", ElementType::kFloat32, leading_axes(op)},
                         {"rstd", ElementType::kFloat32, leading_axes(op)}}};
}

SavedForBackward rms_norm_saved(const Op& op) {
  return {.inputs = {0},
          .outputs = {},
          .statistics = {{"rstd", ElementType::kFloat32, leading_axes(op)}}};
}

}  // namespace

OpDefinition layer_norm_definition() {
  return {OpKind::kLayerNorm,
          "layer_norm",
          /*splits_backward=*/false,
          /*cheap=*/true,
          no_work,
          streamed_traffic,
          layer_norm_saved,
          no_workspace,
          no_collectives};
}

OpDefinition rms_norm_definition() {
  return {OpKind::kRmsNorm,
          "rms_norm",
          /*splits_backward=*/false,
          /*cheap=*/true,
          no_work,
          streamed_traffic,
          rms_norm_saved,
          no_workspace,
          no_collectives};
}

}  // namespace shardwise
