// Memory that a layer needs for a while, on top of what it keeps.
#pragma once

#include "core/units.h"
#include "graph/layer_body.h"

namespace shardwise {

// Largest sum of live value bytes beyond `saved` and beyond what the caller holds (input, output
// gradient count as live here while needed), over forward, recompute and backward.
// Values die after their last read; in_place shares storage.
Bytes transient_bytes(const LayerBody& body);

}  // namespace shardwise
