// Memory that a layer needs for a while, on top of what it keeps.
#pragma once

#include "core/units.h"
#include "graph/layer_body.h"

namespace shardwise {

// What the layer needs beyond saved_bytes() while it runs:
//
//   max over forward, recomputation and backward of (bytes of live values) - saved_bytes()
//
// Values live until they are read for the last time, saved ones too: forward makes them one after
// the other, backward frees them one after the other. in_place shares storage. Input and output
// gradient count while they are needed. Two kinds of saved values are taken as never freed: the
// input, for the layer before may keep the same, and what recomputation starts from. Never
// negative.
Bytes transient_bytes(const LayerBody& body);

}  // namespace shardwise
