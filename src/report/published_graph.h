// The graph of a decoder of which only the shape is published.
#pragma once

#include "cost/decoder_shape.h"
#include "graph/op.h"

namespace shardwise {

// Layers "embedding", "layer.0", ..., "head": norm, attention (latent where the shape says so),
// norm, MLP or experts, all of them pre-norm with residual additions, or attention and MLP side by
// side where the shape says so. Rotary passes stand for
// positions and biases, RMS norms for any norm: the same bytes. Extra layers that predict later
// tokens come last, without heads of their own. Requires a shape with positive sizes whose heads
// divide by its key/value heads.
Graph published_graph(const DecoderShape& shape, std::int64_t microbatch, std::int64_t sequence);

}  // namespace shardwise
