// Runs one step of a layout conversion on a rank's local tensor.
#pragma once

#include <ATen/core/Tensor.h>

#include "graph/layout.h"
#include "runtime/communicator.h"

namespace shardwise {

// The local tensor after `step`, in storage of its own, contiguous. `group` is this rank's group
// along step.mesh_axis (unused by a slice), `coordinate` its place there. `input` is contiguous;
// `may_overwrite`: it dies here, an all-reduce may work in its storage.
at::Tensor convert_layout(const CollectiveStep& step,
                          const at::Tensor& input,
                          CommunicationGroup* group,
                          int coordinate,
                          int degree,
                          bool may_overwrite);

}  // namespace shardwise
