// Names and places of a model's parameters in Hugging Face's files (files/file_slice.h says how a
// place reads).
#pragma once

#include <span>
#include <string>

#include "files/file_slice.h"
#include "graph/op.h"
#include "models/model.h"

namespace shardwise {

// For every parameter of `graph` (layers in order, then tensors; tied aliases left out) its place
// in a checkpoint as from_pretrained and published models have it: GPT-2's fused transposed
// matrices with prefix "transformer.", one tensor an expert. Requires graph = build_graph(config,
// ...).
CheckpointMap written_checkpoint(const ModelConfig& config, const Graph& graph);

// The same for a checkpoint that holds tensors called `names`: with or without the prefix of the
// bare model ("transformer.", "model."), Mixtral's experts apart or fused. Throws InputError that
// begins with `where` (the checkpoint's folder) if a tensor is missing or one is left over: the
// checkpoint is of another model. Buffers of old versions and a copy of a tied head are passed
// over.
CheckpointMap stored_checkpoint(const ModelConfig& config,
                                const Graph& graph,
                                std::span<const std::string> names,
                                const std::string& where);

}  // namespace shardwise
