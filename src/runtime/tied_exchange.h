// Moves a tied parameter's gradient or values between the ranks that hold its two uses.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "lower/program.h"
#include "runtime/communicator.h"

namespace shardwise {

// The part of the tensor inside `box` (its own indices), as a view.
at::Tensor part_of(const at::Tensor& tensor, const Box& box);

struct ReceivedPart {
  Box box;            // local indices of the receiver's parameter
  at::Tensor values;  // contiguous
};

// Posts all messages, then waits for all; a message of a rank to itself is a copy. Parts sent are
// cut from `source` (undefined on a rank that sends nothing). Received parts in message order.
std::vector<ReceivedPart> exchange_tied(const std::vector<TiedMessage>& messages,
                                        const at::Tensor& source,
                                        at::ScalarType type,
                                        Communicator& communicator);

}  // namespace shardwise
